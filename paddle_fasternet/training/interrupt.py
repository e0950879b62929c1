"""Ctrl-C and SIGTERM as a request that the training loop sees between two steps."""
import contextlib
import signal
import sys
import threading


class StopRequest:
    """Whether somebody has asked the training to stop."""

    def __init__(self):
        self.made = False

    def _take(self, signum, _):
        if self.made and signum == signal.SIGINT:
            raise KeyboardInterrupt("stopped at once; the checkpoint before stays")
        if not self.made:
            self.made = True
            with contextlib.suppress(RuntimeError):  # the signal came while something was being printed
                print("\nStopping after this step, with a checkpoint. Ctrl-C once more stops at once.", file=sys.stderr)


@contextlib.contextmanager
def stop_request():
    """A ``StopRequest`` that Ctrl-C and SIGTERM make within the block; only a second Ctrl-C interrupts there and then.

    A repeated SIGTERM does not: launch sends several in a row. Signals reach the main thread alone, elsewhere the
    request is never made. The handlers from before come back at the end.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, request._take)
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: set outside Python
