"""The same jobs with CPython's own tools: prints the seconds for COUNT operations of JOB."""

import concurrent.futures
import multiprocessing
import sys
import time


def add_one(number):
    return number + 1


def echo(connection, count):
    for _ in range(count):
        connection.send_bytes(connection.recv_bytes())


def start(count):
    begin = time.perf_counter()
    for number in range(count):
        process = context.Process(target=add_one, args=(number,))
        process.start()
        process.join()
        assert process.exitcode == 0
    return time.perf_counter() - begin


def task(count):
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        assert pool.submit(add_one, 1).result() == 2
        begin = time.perf_counter()
        for number in range(count):
            assert pool.submit(add_one, number).result() == number + 1
        return time.perf_counter() - begin


def message(count):
    here, there = context.Pipe()
    process = context.Process(target=echo, args=(there, count + 1))
    process.start()
    here.send_bytes(b"12345678")
    here.recv_bytes()
    begin = time.perf_counter()
    for _ in range(count):
        here.send_bytes(b"12345678")
        assert here.recv_bytes() == b"12345678"
    took = time.perf_counter() - begin
    process.join()
    return took


def put_all(queue, count):
    for number in range(count):
        queue.put(number)


def queue(count):
    between = context.Queue(1024)
    process = context.Process(target=put_all, args=(between, count + 1))
    process.start()
    assert between.get() == 0
    begin = time.perf_counter()
    for number in range(count):
        assert between.get() == number + 1
    took = time.perf_counter() - begin
    process.join()
    return took


if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    jobs = {"start": start, "task": task, "message": message, "queue": queue}
    print(jobs[sys.argv[1]](int(sys.argv[2])))
