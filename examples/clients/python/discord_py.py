import os

import discord
from discord.backoff import ExponentialBackoff
from discord.gateway import DiscordWebSocket

from gateway_queue import wait_for_identify

# While before_identify_hook waits, nothing reads the connection, and discord.py closes it after
# a minute. So a shard that has no session to resume waits before it connects.
connect = DiscordWebSocket.from_client.__func__


async def connect_when_granted(cls, client, *, shard_id=None, resume=False, **options):
    if not resume:
        await wait_for_identify(shard_id or 0)
    return await connect(cls, client, shard_id=shard_id, resume=resume, **options)


DiscordWebSocket.from_client = classmethod(connect_when_granted)


# discord.py gives up a wait after a minute, and asks again after a pause that grows to 17 minutes.
# Meanwhile the other shards do not resume.
delay = ExponentialBackoff.delay
ExponentialBackoff.delay = lambda self: min(delay(self), 30)


class Bot(discord.AutoShardedClient):
    async def before_identify_hook(self, shard_id, *, initial=False):
        pass  # instead of a pause of five seconds

    async def on_shard_ready(self, shard_id):
        print(f"shard {shard_id} is ready", flush=True)


bot = Bot(
    intents=discord.Intents.none(),
    shard_ids=[0, 1, 2, 3],
    shard_count=4,
    shard_connect_timeout=None,  # the default is 180 seconds
)
bot.run(os.environ["DISCORD_TOKEN"])
