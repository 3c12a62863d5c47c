import { Client, Events } from 'discord.js';
import { retry, waitForIdentify } from './queue.js';

// A login that fails destroys the client, so each attempt has a new one.
await retry(async () => {
  const client = new Client({
    intents: [],
    shards: [0, 1, 2, 3],
    shardCount: 4,
    ws: { buildIdentifyThrottler: () => ({ waitForIdentify }) },
  });
  client.on(Events.ShardReady, (shard) => console.log(`shard ${shard} is ready`));
  await client.login(process.env.DISCORD_TOKEN);
});
