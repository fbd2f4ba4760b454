"""Breaks the decoder in every process that has this folder on its path (PYTHONPATH).

A recording's sample rate says what its decoder does: 8001 Hz crashes, 8002 hangs, 8003 eats
memory, 8004 crashes when it is opened, 8005 hangs when it is opened; 8006 crashes once in all.
"""

import ctypes
import importlib.abc
import importlib.machinery
import os
import sys
import time


def _break(rate: int, reading: bool) -> None:
    if rate == 8006 and reading:
        try:
            os.close(os.open(os.environ["FAULTY_ONCE"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
    if rate in ((8001, 8006) if reading else (8004,)):
        ctypes.string_at(0)
    if rate == (8002 if reading else 8005):
        time.sleep(1000)
    if rate == 8003 and reading:
        eaten = []
        while True:
            eaten.append(bytes(64 << 20))


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "soundfile":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            opened, read = module.SoundFile.__init__, module.SoundFile.read

            def broken_open(self, *args, **kwargs):
                opened(self, *args, **kwargs)
                _break(self.samplerate, False)

            def broken_read(self, *args, **kwargs):
                _break(self.samplerate, True)
                return read(self, *args, **kwargs)

            module.SoundFile.__init__, module.SoundFile.read = broken_open, broken_read

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Finder())
