import { createGatewayManager, DiscordenoShard, ShardSocketCloseCodes } from '@discordeno/gateway';
import { waitForIdentify } from './queue.js';

// Version 21 never calls a requestIdentify of your own, so the method that identifies is wrapped.
const { identify } = DiscordenoShard.prototype;
DiscordenoShard.prototype.identify = async function () {
  await this.close(ShardSocketCloseCodes.ReIdentifying); // after an invalid session it is open
  await waitForIdentify(this.id);
  await identify.call(this);
};

const gateway = createGatewayManager({
  token: process.env.DISCORD_TOKEN,
  totalShards: 4,
  // A bucket for each shard: all of them wait for the queue at the same time.
  connection: { shards: 4, sessionStartLimit: { maxConcurrency: 4 } },
  events: { message: (shard, { t }) => t === 'READY' && console.log(`shard ${shard.id} is ready`) },
});
await gateway.spawnShards();
