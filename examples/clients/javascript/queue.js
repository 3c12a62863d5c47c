import { setTimeout as sleep } from 'node:timers/promises';

/** Resolves when the shard may identify. Rejects only if the signal aborts. */
export async function waitForIdentify(shard, signal) {
  for (;;) {
    try {
      const url = `http://my-bot/?shard=${shard}&wait=60`;
      const response = await fetch(url, { signal, redirect: 'error' });
      await response.arrayBuffer(); // Only a complete response is a grant.
      if (response.status === 200) return;
    } catch {
      signal?.throwIfAborted();
    }
    await sleep(1000, undefined, { signal });
  }
}

/** Calls `connect` until it succeeds. discord.js throws if fewer session starts than shards are left. */
export async function retry(connect) {
  for (;;) {
    try {
      return await connect();
    } catch (error) {
      console.error(error.message);
    }
    await sleep(30_000);
  }
}
