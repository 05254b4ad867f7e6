"""The program under test, started once as `PROGRAM serve`.

A JSON list of arguments a line in, [status, message] a line out."""
import json
import selectors
import subprocess
import sys


class Program:
    """A context manager, called with a list of arguments; a process that ended is replaced."""

    def __init__(self, path, timeout):
        self.command = [sys.executable, '-B', str(path),
                        'serve'] if str(path).endswith('.py') else [str(path), 'serve']
        self.timeout, self.process = timeout, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.ready = selectors.DefaultSelector()
        self.ready.register(self.process.stdout, selectors.EVENT_READ)

    def stop(self):
        if self.process:
            self.process.stdin.close()
            self.process.kill()
            self.process.wait()
            self.process = None

    def __call__(self, args):
        if not self.process:
            self.start()
        try:
            self.process.stdin.write(json.dumps([str(arg) for arg in args]).encode() + b'\n')
            self.process.stdin.flush()
            if not self.ready.select(self.timeout):
                self.stop()
                return 'none', f'no answer after {self.timeout:.0f} s'
            reply = self.process.stdout.readline()
            if not reply:
                raise BrokenPipeError
            status, message = json.loads(reply)
            return status, message
        except BrokenPipeError:
            code = self.process.wait()
            self.process = None
            return 'none', f'the program ended with exit status {code}'
        except ValueError as error:
            self.stop()
            return 'none', f'the answer is not [status, message]: {error}'
