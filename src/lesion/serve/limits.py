"""How many images a client may send: a bucket per client, in this process or in a Redis that several servers share."""

import asyncio
import logging
import math
from array import array
from collections import OrderedDict
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from time import monotonic
from typing import Any, Protocol

from lesion.errors import ConfigError, brief
from lesion.extras import need
from lesion.redaction import redact

log = logging.getLogger(__name__)
CLIENTS = 65_536  # of which the memory is exact
TIMEOUT_S = 0.25  # to wait for Redis
PAUSE_S = 5.0  # between two tries while Redis does not answer
CONNECTIONS = 16  # to Redis
QUIET_S = 60.0  # between two lines of the log about that

# A bucket is kept as the time at which it will be full again, one number (the virtual scheduling algorithm of
# ITU-T I.371, known as GCRA). Redis' own clock counts, so the servers' need not agree.
SCRIPT = """
local images, rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local wait = full - now - (burst - math.min(images, burst)) / rate
if wait > 0 then return string.format('%.6f', wait) end
full = full + images / rate
redis.call('SET', KEYS[1], string.format('%.6f', full), 'PX', math.ceil((full - now) * 1000) + 1)
return '0'
"""


class Limiter(Protocol):
    """What admits images."""

    async def take(self, client: str, images: int) -> float:
        """0 when `client` may send so many images now, which are then counted; else the seconds until it may.

        More images than the burst need a full bucket, and leave it in debt.
        """
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...


def make_limiter(rate_per_minute: float, burst: int, redis_url: str | None = None) -> Limiter:
    """A limiter of `rate_per_minute` images per client after the first `burst`; a rate of 0 admits everything.

    Raises ConfigError when `redis_url` is none, and MissingExtra without the package for it.
    """
    if not rate_per_minute:
        return Unlimited()
    local = LocalLimiter(rate_per_minute / 60, burst)
    return SharedLimiter(local, redis_url) if redis_url else local


@lru_cache(maxsize=1000)  # each request asks, mostly for few addresses
def name_client(address: str) -> str:
    """The address that is counted: of IPv6 the /64 network, all of which one client may have; else "unknown"."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or ip_network((found, 64), strict=False))
    return str(found)


class Unlimited:
    """Admits everything."""

    async def take(self, client: str, images: int) -> float:
        """Always 0."""
        return 0.0

    async def close(self) -> None:
        """Nothing to give back."""


class LocalLimiter:
    """Buckets in this process. Its memory is bounded, and whoever is put out of it is not forgiven.

    The clients seen last are known exactly. Of the others, those that had used more than half of their burst leave
    that debt in one of as many cells, chosen by a hash that nobody outside can foresee; a client that is new takes over
    the debt of its cell: its own from before, rarely another's.
    """

    def __init__(self, rate: float, burst: int, clients: int = CLIENTS) -> None:
        """Args: rate, in images per second, > 0; burst, in images, >= 1; clients that are known exactly."""
        self.rate, self.burst, self.clients = rate, burst, clients
        self._full: OrderedDict[str, float] = OrderedDict()  # client → when its bucket will be full; latest seen last
        self._owed = array("d", bytes(8 * clients))

    async def take(self, client: str, images: int) -> float:
        """See Limiter."""
        return self.count(client, images, monotonic())

    def count(self, client: str, images: int, now: float) -> float:
        """`take` at the time `now`, in seconds of any clock that does not go back."""
        full = max(self._full.pop(client, 0.0) or self._owed[hash(client) % self.clients], now)
        wait = full - now - (self.burst - min(images, self.burst)) / self.rate
        self._full[client] = full if wait > 0 else full + images / self.rate
        if len(self._full) > self.clients:
            gone, full = self._full.popitem(last=False)
            if full - now > self.burst / self.rate / 2:
                cell = hash(gone) % self.clients
                self._owed[cell] = max(self._owed[cell], full)
        return max(wait, 0.0)

    async def close(self) -> None:
        """Nothing to give back."""


class SharedLimiter:
    """Buckets in Redis, each counted in one atomic step; while Redis does not answer, those of this process count."""

    def __init__(self, local: LocalLimiter, url: str) -> None:
        """Args: local, which also says rate and burst; url, redis:// or rediss:// or unix://."""
        need("serve", "redis", extra="redis")
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self._local = local
        self._down, self._told, self._next_try, self._next_line = False, False, 0.0, 0.0
        waits = dict.fromkeys(("timeout", "socket_timeout", "socket_connect_timeout"), TIMEOUT_S)
        try:
            pool: Any = BlockingConnectionPool.from_url(
                url, max_connections=CONNECTIONS, retry=Retry(NoBackoff(), 0), **waits
            )
            pool.make_connection()  # connects to nothing, but refuses an unknown option
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"serve.redis: {redact(url)!r} is no URL of a Redis", hint="write redis://HOST:PORT/NUMBER"
            ) from error
        self._redis = Redis.from_pool(pool)
        self._script: Any = self._redis.register_script(SCRIPT)

    async def take(self, client: str, images: int) -> float:
        """See Limiter; waits for Redis no longer than TIMEOUT_S and raises nothing."""
        now = monotonic()
        if now < self._next_try:
            return self._local.count(client, images, now)
        if self._down:
            self._next_try = now + PAUSE_S  # one request tries, the others go on without
        try:
            async with asyncio.timeout(TIMEOUT_S):
                found = await self._script([f"lesion:images:{client}"], [images, self._local.rate, self._local.burst])
            wait_s = float(found)
            if not (math.isfinite(wait_s) and wait_s >= 0):
                raise ValueError("its answer is no number of seconds")
        except Exception as error:  # whatever it is: a limit that cannot be counted is no reason to fail a request
            self._complain(error)
            return self._local.count(client, images, now)
        self._recover()
        return wait_s

    def _complain(self, error: Exception) -> None:
        now = monotonic()
        self._down, self._next_try = True, now + PAUSE_S
        if now >= self._next_line:
            self._told, self._next_line = True, now + QUIET_S
            log.warning("Redis does not answer, each server limits on its own: %s", redact(brief(error)))

    def _recover(self) -> None:
        if self._told:
            log.info("Redis answers again: the limit is shared")
        self._down, self._told, self._next_try = False, False, 0.0

    async def close(self) -> None:
        """Close the connections, for which it waits no longer than TIMEOUT_S."""
        with suppress(Exception):
            async with asyncio.timeout(TIMEOUT_S):
                await self._redis.aclose()
