import { Client, Shard } from 'oceanic.js';
import { waitForIdentify } from './queue.js';

const { identify } = Shard.prototype;
Shard.prototype.identify = function () {
  const closed = new AbortController();
  this.once('disconnect', () => closed.abort());
  waitForIdentify(this.id, closed.signal).then(() => identify.call(this), () => {});
};

const client = new Client({
  auth: `Bot ${process.env.DISCORD_TOKEN}`,
  gateway: {
    intents: [],
    shardIDs: [0, 1, 2, 3],
    maxShards: 4,
    // All shards connect at once and wait for the queue.
    concurrency: 4,
    override: { timeBetweenShardConnects: 0 },
  },
});
client.on('error', console.error); // Without a listener, the first lost connection ends the process.
client.on('shardReady', (shard) => console.log(`shard ${shard} is ready`));
await client.connect();
