"""Memory that was freed goes back, and threads do not keep arenas of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from node import heap

PROGRAM = textwrap.dedent(
    """
    import ctypes, re, threading
    from node import heap

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    def arenas():
        library = ctypes.CDLL(None)
        library.open_memstream.restype = ctypes.c_void_p
        text, size = ctypes.c_char_p(), ctypes.c_size_t()
        stream = ctypes.c_void_p(library.open_memstream(ctypes.byref(text), ctypes.byref(size)))
        library.malloc_info(0, stream)
        library.fclose(stream)
        return text.value.count(b"<heap ")

    assert heap.prepare()
    ready = threading.Barrier(9)
    kept, held = [], []

    def work():
        ready.wait()
        pieces = [bytes(2000) for _ in range(4000)]
        kept.append(pieces[-1])
        held.append(pieces)
        ready.wait()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    ready.wait()
    ready.wait()
    for thread in threads:
        thread.join()
    assert arenas() <= heap.ARENAS_MAX, arenas()
    full = resident()
    held.clear()
    del work
    assert heap.trim()
    assert full - resident() > 40 << 20, (full, resident())
    """
)


@pytest.mark.skipif(heap._function("malloc_trim") is None, reason="not glibc")
def test_freed_memory_goes_back_and_arenas_are_few() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_a_library_that_cannot_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_function", lambda _: None)
    assert not heap.prepare()
    assert not heap.trim()
