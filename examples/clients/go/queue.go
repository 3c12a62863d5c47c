package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

var client = &http.Client{
	Timeout:       75 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// queue lets each shard identify when a gateway-queue server grants it.
type queue struct {
	ctx    context.Context
	cancel context.CancelFunc
}

func newQueue() *queue {
	ctx, cancel := context.WithCancel(context.Background())
	return &queue{ctx, cancel}
}

// Wait returns when the shard may identify. disgo cannot end a wait: a shard that reconnects waits
// with context.Background(), and holds a lock that closing it needs. So Close ends all waits.
func (q *queue) Wait(ctx context.Context, shardID int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(q.ctx, cancel)()
	for !isGranted(ctx, shardID) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return nil
}

func isGranted(ctx context.Context, shardID int) bool {
	url := fmt.Sprintf("http://my-bot/?shard=%d&wait=60", shardID)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body) // only a complete response is a grant
	return err == nil && response.StatusCode == http.StatusOK
}

// Unlock does nothing: the clock of the bucket started with the grant.
func (q *queue) Unlock(int) {}

// Close ends all waits. disgo does not call it.
func (q *queue) Close(context.Context) { q.cancel() }
