import { REST } from '@discordjs/rest';
import { WebSocketManager, WebSocketShardEvents } from '@discordjs/ws';
import { retry, waitForIdentify } from './queue.js';

const token = process.env.DISCORD_TOKEN;
const manager = new WebSocketManager({
  token,
  rest: new REST().setToken(token),
  intents: 0,
  shardIds: [0, 1, 2, 3],
  shardCount: 4,
  buildIdentifyThrottler: () => ({ waitForIdentify }),
});
manager.on(WebSocketShardEvents.Ready, (_, shard) => console.log(`shard ${shard} is ready`));
await retry(() => manager.connect());
