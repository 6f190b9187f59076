"""Tasks that fail in every way that a process can."""

import ctypes
import os
import sys
import time

from gradport import Task


def loop():
    while True:
        pass


def talk():
    while True:
        print("noise" * 100)


def eat():
    eaten = []
    while True:
        eaten.append(bytearray(50 << 20))


def leave_a_process():
    if os.fork() == 0:
        time.sleep(1000)


def leave_a_daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)


def become_two():
    os.fork()


def fail():
    raise ValueError("no")


def deny():
    assert 1 == 2, "one is not two"


TASKS = [
    Task("good", lambda: None),
    Task("segfault", lambda: ctypes.string_at(0)),
    Task("exit", lambda: sys.exit(3)),
    Task("end", lambda: os._exit(4)),
    Task("loop", loop),
    Task("talk", talk),
    Task("eat", eat),
    Task("leave a process", leave_a_process),
    Task("leave a daemon", leave_a_daemon),
    Task("two processes", become_two),
    Task("fail", fail),
    Task("deny", deny),
    Task("close everything", lambda: os.closerange(0, 100)),
    Task("kill itself", lambda: os.kill(os.getpid(), 9)),
    Task("kill the worker", lambda: os.kill(os.getppid(), 9)),
    Task("good again", lambda: None),
]
