#!/usr/bin/env python3
"""Members of many consumer groups that do nothing but say that they live, and what that costs the brokers.

group-members.py GROUPS MEMBERS SECONDS URL=PID...

Creates MEMBERS consumer instances in each of GROUPS groups, subscribes them to the topic `beats`, sends a heartbeat for
each every three seconds through any broker, and prints one JSON document: how long joining took, heartbeats a second,
and each broker's processor time in percent of a core, while they beat and while they do not.
"""

import asyncio
import json
import os
import random
import sys
import time

INTERVAL_S = 3.0
CONNECTIONS = 8
TICKS = os.sysconf("SC_CLK_TCK")


class Broker:
    """A few connections to one broker, and the processor time that its process has used."""

    def __init__(self, url, pid):
        self.host, self.port = url.removeprefix("http://").rsplit(":", 1)
        self.pid = pid
        self.idle = asyncio.Queue()

    async def open(self):
        for _ in range(CONNECTIONS):
            self.idle.put_nowait(await asyncio.open_connection(self.host, self.port))

    async def call(self, method, path, body=None):
        text = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: {self.host}\r\ncontent-length: {len(text)}\r\n"
        if text:
            head += "content-type: application/json\r\n"
        reader, writer = await self.idle.get()
        try:
            writer.write(head.encode() + b"\r\n" + text)
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            length = 0
            for line in head.split(b"\r\n"):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            answer = await reader.readexactly(length)
        finally:
            self.idle.put_nowait((reader, writer))
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer.decode(errors='replace')}")

    def used_s(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


async def join(brokers, group, member):
    base = f"/consumers/g{group}"
    options = {"name": f"m{member}", "auto.commit.enable": "false", "session.timeout.ms": "60000"}
    broker = random.choice(brokers)
    await broker.call("POST", base, options)
    await broker.call("POST", f"{base}/instances/m{member}/subscription", {"topics": ["beats"]})


async def all_join(brokers, groups, members):
    """One member of a group after the other, many groups at once."""
    wanted = iter(range(groups))

    async def worker():
        for group in wanted:
            for member in range(members):
                await join(brokers, group, member)

    await asyncio.gather(*(worker() for _ in range(len(brokers) * CONNECTIONS)))


async def beat(brokers, groups, members, seconds):
    """Heartbeats, spread evenly over the interval; how many were answered."""
    everybody = [(group, member) for group in range(groups) for member in range(members)]
    random.shuffle(everybody)
    began, sent, running = time.monotonic(), 0, set()
    while True:
        now = time.monotonic() - began
        if now >= seconds:
            break
        due = int(now * len(everybody) / INTERVAL_S)
        while sent < due:
            group, member = everybody[sent % len(everybody)]
            path = f"/consumers/g{group}/instances/m{member}/heartbeat"
            task = asyncio.create_task(random.choice(brokers).call("POST", path))
            running.add(task)
            task.add_done_callback(running.discard)
            sent += 1
        await asyncio.sleep(0.005)
    await asyncio.gather(*running)
    return sent


async def percent(brokers, seconds, work):
    before, began = [broker.used_s() for broker in brokers], time.monotonic()
    result = await work
    passed = time.monotonic() - began
    used = [broker.used_s() - at for broker, at in zip(brokers, before)]
    return result, [round(100 * used_s / passed, 1) for used_s in used]


async def main():
    groups, members, seconds = (int(argument) for argument in sys.argv[1:4])
    brokers = [Broker(url, int(pid)) for url, pid in (argument.rsplit("=", 1) for argument in sys.argv[4:])]
    for broker in brokers:
        await broker.open()
    began = time.monotonic()
    await all_join(brokers, groups, members)
    joined_ms = round(1000 * (time.monotonic() - began))
    # What joining has left to do shall not be counted.
    await asyncio.sleep(3)
    _, silent = await percent(brokers, seconds, asyncio.sleep(seconds))
    sent, beating = await percent(brokers, seconds, beat(brokers, groups, members, seconds))
    document = {
        "joined_ms": joined_ms,
        "heartbeats_per_second": round(sent / seconds),
        "silent_percent": silent,
        "beating_percent": beating,
    }
    print(json.dumps(document))


asyncio.run(main())
