"""Runs the tests of the main program and ends with a line that `cargo xtask` reads."""

import sys
import unittest


def run():
    result = unittest.main("__main__", exit=False, verbosity=0).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed", flush=True)
    sys.exit(0 if result.wasSuccessful() else 1)
