import asyncio

import aiohttp


async def wait_for_identify(shard: int) -> None:
    """Return when the shard may identify."""
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                url = f"http://my-bot/?shard={shard}&wait=60"
                async with session.get(url, allow_redirects=False) as response:
                    await response.read()  # Only a complete response is a grant.
                    if response.status == 200:
                        return
            except (aiohttp.ClientError, asyncio.TimeoutError):
                pass
            await asyncio.sleep(1)
