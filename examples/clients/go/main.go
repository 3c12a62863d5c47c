package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/disgoorg/disgo"
	"github.com/disgoorg/disgo/bot"
	"github.com/disgoorg/disgo/events"
	"github.com/disgoorg/disgo/sharding"
)

func main() {
	stopped, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	queue := newQueue()
	client, err := disgo.New(os.Getenv("DISCORD_TOKEN"),
		bot.WithShardManagerConfigOpts(
			sharding.WithShardIDs(0, 1, 2, 3),
			sharding.WithShardCount(4),
			sharding.WithIdentifyRateLimiter(queue),
		),
		bot.WithEventListenerFunc(func(ready *events.Ready) {
			fmt.Printf("shard %d is ready\n", ready.ShardID())
		}),
	)
	if err != nil {
		log.Fatal(err)
	}
	go client.OpenShardManager(stopped)
	<-stopped.Done()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	queue.Close(ctx) // first: client.Close waits for the shards
	client.Close(ctx)
}
