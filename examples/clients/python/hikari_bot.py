import os

import hikari
from hikari.impl.shard import GatewayShardImpl

from gateway_queue import wait_for_identify

connect = GatewayShardImpl._connect


async def connect_when_granted(shard):
    if shard._seq is None:  # no session to resume
        await wait_for_identify(shard.id)
    return await connect(shard)


GatewayShardImpl._connect = connect_when_granted

bot = hikari.GatewayBot(os.environ["DISCORD_TOKEN"], intents=hikari.Intents.NONE)


@bot.listen()
async def on_ready(event: hikari.ShardReadyEvent) -> None:
    print(f"shard {event.shard.id} is ready", flush=True)


# Without ignore_session_start_limit, run() raises if fewer session starts than shards are left.
bot.run(shard_ids=[0, 1, 2, 3], shard_count=4, ignore_session_start_limit=True)
