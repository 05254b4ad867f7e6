#!/usr/bin/env python3
"""Several processes that train one model: that they agree with one, and what happens when one fails.

    python3 tests/program/ranks_test.py PROGRAM [CLASS[.TEST]]

Processes are started by --processes, by mpirun where it and libx_transformers_mpi.so are there, and as torchrun and srun
do it, by their variables. A model of a few hundred weights; at most four processes at a time. XT_RANKS_KILLS: how many
times a process is killed at a random instant (2); XT_RANKS_SEED: of these instants."""
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else 'build/x-transformers'
SEQ = 16
TEXT = 'the quick brown fox jumps over the lazy dog and runs away from it\n' * 40
KILLS = int(os.environ.get('XT_RANKS_KILLS', '2'))
HOST = socket.gethostname()
MPIRUN = shutil.which('mpirun')


def has_mpi():
    found = subprocess.run([PROGRAM, 'doctor', '--json'], capture_output=True, check=True)
    return MPIRUN is not None and not json.loads(found.stdout)['mpi_unsupported']


def gpus_seen():
    """GPUs that can be joined."""
    found = json.loads(subprocess.run([PROGRAM, 'doctor', '--json'], capture_output=True, check=True).stdout)
    return 0 if found['nccl_unsupported'] else found['cuda']


def model(dropout=0.0):
    return {'type': 'AutoregressiveWrapper',
            'net': {'type': 'TransformerWrapper', 'num_tokens': 256, 'max_seq_len': SEQ,
                    'attn_layers': {'type': 'Decoder', 'dim': 16, 'depth': 2, 'heads': 2, 'attn_dim_head': 8,
                                    'rotary_pos_emb': True, 'attn_dropout': dropout, 'ff_dropout': dropout}}}


def own_environment(**more):
    """Without what another launcher may have set around this test."""
    names = re.compile(r'(RANK|WORLD_SIZE|LOCAL_|MASTER_|OMPI_|PMI|SLURM_|TORCHELASTIC_|X_TRANSFORMERS_)')
    kept = {name: value for name, value in os.environ.items() if not names.match(name)}
    return {**kept, **{name: str(value) for name, value in more.items()}}


def weights_of(folder):
    """Numbers of each tensor of a run's latest checkpoint."""
    data = (folder / 'checkpoints' / 'latest' / 'model.safetensors').read_bytes()
    size = struct.unpack('<Q', data[:8])[0]
    header, tensors = json.loads(data[8:8 + size]), {}
    for name, about in header.items():
        if name != '__metadata__':
            begin, end = about['data_offsets']
            tensors[name] = struct.unpack(f'<{(end - begin) // 4}f', data[8 + size + begin:8 + size + end])
    return tensors


def metrics_of(folder):
    return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def children_of(process):
    try:
        return [int(each) for each in Path(f'/proc/{process}/task/{process}/children').read_text().split()]
    except FileNotFoundError:
        return []


def wait_until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise AssertionError('what was waited for did not come')
        time.sleep(0.01)


class RanksTest(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.text = self.root / 'text.txt'
        self.text.write_text(TEXT)

    def arguments(self, out, batch_size, *more, dropout=0.0, **train):
        config = self.root / f'{out}.json'
        config.write_text(json.dumps({
            'model': model(dropout),
            'data': {'path': str(self.text), 'seq_len': SEQ, 'batch_size': batch_size, 'val_batches': 2},
            'train': {'steps': 6, 'learning_rate': 3e-3, 'warmup_steps': 0, 'schedule': 'constant', 'log_every': 1,
                      'eval_every': 3, 'save_every': 3, 'sample_every': 0, 'threads': 1, 'progress': 'none',
                      'plot': False, 'tensorboard': False, **train}}))
        return [PROGRAM, 'train', '--config', str(config), '--out', str(self.root / out), *map(str, more)]

    def run_all(self, command, status=0, timeout=100, **environment):
        done = subprocess.run(command, capture_output=True, timeout=timeout, check=False, text=True,
                              errors='replace', stdin=subprocess.DEVNULL, env=own_environment(**environment))
        self.assertEqual(done.returncode, status, done.stderr + done.stdout)
        return done

    def train(self, out, batch_size, *more, status=0, **options):
        return self.run_all(self.arguments(out, batch_size, *more, **options), status)

    def mpi(self, processes, command):
        return [MPIRUN, '--oversubscribe', '--bind-to', 'none', '-n', str(processes), *command]

    def run_mpi(self, processes, command, status=0, **environment):
        return self.run_all(self.mpi(processes, command), status, OMPI_ALLOW_RUN_AS_ROOT=1,
                            OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1, **environment)

    def start_each(self, arguments, environments):
        return [subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                 env=own_environment(**each)) for each in environments]

    def assert_close(self, one, other, most=2e-5):
        one, other = weights_of(self.root / one), weights_of(self.root / other)
        self.assertEqual(one.keys(), other.keys())
        for name, numbers in one.items():
            worst = max(abs(a - b) for a, b in zip(numbers, other[name]))
            self.assertLessEqual(worst, most, name)

    def assert_same(self, one, other):
        self.assertEqual(weights_of(self.root / one), weights_of(self.root / other))

    def assert_same_losses(self, one, other, most=1e-4):
        one, other = metrics_of(self.root / one), metrics_of(self.root / other)
        self.assertEqual(len(one), len(other))
        for a, b in zip(one, other):
            for name in ('step', 'tokens', 'skipped_steps'):
                self.assertEqual(a.get(name), b.get(name))
            for name in ('loss', 'val_loss', 'grad_norm'):
                self.assertEqual(name in a, name in b)
                if name in a:
                    self.assertLessEqual(abs(a[name] - b[name]), most * max(1, abs(a[name])), f'{name} of {a}')


class Agree(RanksTest):
    def test_processes_agree_with_one(self):
        options = {'grad_accum': 2, 'ema_decay': 0.9}
        self.train('one', 8, **options)
        for processes in (2, 4):
            done = self.train(f'of{processes}', 8 // processes, '--processes', processes, **options)
            self.assertEqual(done.stdout.count('finished'), 1)
            self.assert_same_losses('one', f'of{processes}')
            self.assert_close('one', f'of{processes}')
        rows = [row for row in metrics_of(self.root / 'of4') if 'loss' in row]
        self.assertEqual(rows[-1]['tokens'], 6 * 2 * 8 * SEQ)

    def test_shares_of_the_optimizer_give_the_same_numbers(self):
        options = {'ema_decay': 0.9, 'qk_clip': 0.5, 'checkpoint_every': 1}
        self.train('one', 8, **options)
        for processes in (2, 4):
            more = (8 // processes, '--processes', processes)
            self.train(f'whole{processes}', *more, **options)
            self.train(f'shares{processes}', *more, shard='optimizer', **options)
            self.assert_same(f'whole{processes}', f'shares{processes}')
            self.assert_same_losses('one', f'shares{processes}')
            self.assert_close('one', f'shares{processes}')
        self.train('shares2', 8, '--resume', steps=9, **options)
        self.train('whole2', 8, '--resume', steps=9, **options)
        self.assert_same('whole2', 'shares2')

    def test_shares_of_the_parameters_give_the_same_numbers(self):
        for name, options in (('kept', {}), ('again', {'ema_decay': 0.9, 'qk_clip': 0.5, 'checkpoint_every': 1}),
                              ('accumulated', {'grad_accum': 2})):
            self.train(f'{name}1', 8, **options)
            for processes in (2, 4):
                with self.subTest(options=options, processes=processes):
                    more = (8 // processes, '--processes', processes)
                    whole, shares = f'{name}{processes}', f'{name}_shares{processes}'
                    self.train(whole, *more, **options)
                    self.train(shares, *more, shard='parameters', **options)
                    self.assert_same_losses(f'{name}1', shares)
                    self.assert_close(whole, shares)
                    if processes == 2 and 'grad_accum' not in options:  # else sums are of another order
                        self.assert_same(whole, shares)
        self.train('kept_shares2', 2, '--processes', 4, '--resume', steps=9, shard='parameters')
        self.train('kept2', 8, '--resume', steps=9)
        self.assert_close('kept2', 'kept_shares2')

    def test_shares_of_the_parameters_by_mpi_with_samples(self):
        if not has_mpi():
            self.skipTest('no MPI')
        options = {'sample_every': 3, 'sample_length': 4, 'sample_prompt': 'the', 'shard': 'parameters'}
        self.train('one', 8)
        for processes in (2, 4):
            self.run_mpi(processes, self.arguments(f'mpi{processes}', 8 // processes, **options))
            self.assert_close('one', f'mpi{processes}')

    def test_packed_documents_agree_with_one(self):
        packed = ('--set', 'data.pack=documents', '--set', 'data.separator=32')
        self.train('one', 8, *packed)
        self.train('of2', 4, '--processes', 2, *packed)
        self.assert_same_losses('one', 'of2')
        self.assert_close('one', 'of2')

    def test_mpirun_agrees_with_one(self):
        if not has_mpi():
            self.skipTest('no MPI')
        self.train('one', 8)
        for processes in (2, 4):
            done = self.run_mpi(processes, self.arguments(f'mpi{processes}', 8 // processes))
            self.assertEqual(done.stdout.count('finished'), 1)
            self.assert_same_losses('one', f'mpi{processes}')
            self.assert_close('one', f'mpi{processes}')


class Resume(RanksTest):
    def test_on_as_many_processes_to_the_bit(self):
        options = {'dropout': 0.2, 'ema_decay': 0.9}
        self.train('whole', 4, '--processes', 2, steps=6, **options)
        self.train('parts', 4, '--processes', 2, steps=3, **options)
        done = self.train('parts', 4, '--processes', 2, '--resume', steps=6, **options)
        self.assertEqual(done.stdout.count('finished'), 1)
        self.assert_same('whole', 'parts')
        self.assert_same_losses('whole', 'parts', 0)

    def test_dropout_differs_by_rank(self):
        self.train('run', 4, '--processes', 2, dropout=0.2)
        state = json.loads((self.root / 'run' / 'checkpoints' / 'latest' / 'state.json').read_text())
        self.assertEqual(len(state['random_of_other_ranks']), 1)
        self.assertNotEqual(state['random']['cpu'], state['random_of_other_ranks'][0]['cpu'])
        self.assertEqual(state['samples'], 6 * 8)

    def test_on_another_number_with_the_same_order_of_data(self):
        self.train('whole', 8, steps=6)
        self.train('parts', 4, '--processes', 2, steps=3)
        done = self.train('parts', 8, '--resume', steps=6)
        self.assertIn('processes = 1 (was 2)', done.stderr)
        self.assert_same_losses('whole', 'parts')
        self.assert_close('whole', 'parts')


def of_torchrun(rank, world, port, address='localhost'):
    return {'RANK': rank, 'WORLD_SIZE': world, 'LOCAL_RANK': rank, 'LOCAL_WORLD_SIZE': world,
            'MASTER_ADDR': address, 'MASTER_PORT': port}


class Launchers(RanksTest):
    def free_port(self):
        with socket.socket() as found:
            found.bind(('', 0))
            return found.getsockname()[1]

    def finish(self, processes, statuses):
        outputs = [process.communicate(timeout=100) for process in processes]
        self.assertEqual([process.returncode for process in processes], statuses, outputs)
        return outputs

    def test_variables_of_torchrun(self):
        self.train('one', 8)
        port = self.free_port()
        outputs = self.finish(self.start_each(self.arguments('run', 4), [of_torchrun(i, 2, port) for i in (1, 0)]),
                              [0, 0])
        self.assertEqual(outputs[0], ('', ''))
        self.assertIn('finished', outputs[1][0])
        self.assert_close('one', 'run')

    def test_variables_of_srun(self):
        self.train('one', 8)
        port = self.free_port()
        places = [{'SLURM_PROCID': rank, 'SLURM_STEP_NUM_TASKS': 2, 'SLURM_STEP_NUM_NODES': 1, 'SLURM_JOB_ID': 77,
                   'SLURM_STEP_NODELIST': 'localhost', 'MASTER_PORT': port} for rank in (0, 1)]
        self.finish(self.start_each(self.arguments('run', 4), places), [0, 0])
        self.assert_close('one', 'run')

    def test_what_is_wrong_is_said_once(self):
        done = self.train('run', 4, '--processes', 2, '--set', 'train.stepz=3', status=2)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn('stepz', done.stderr)
        done = self.train('run', 4, '--processes', 100000, status=2)
        self.assertIn('--processes: expected at most', done.stderr)
        if gpus_seen() == 0:
            done = self.train('run', 4, '--processes', 2, '--device', 'cuda', status=2)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn('--device: cuda cannot be used', done.stderr)

    def test_what_the_launcher_refuses(self):
        done = self.run_all(self.arguments('run', 4, '--processes', 2), 2, RANK=0, WORLD_SIZE=2, MASTER_ADDR='x',
                            MASTER_PORT=1)
        self.assertIn('--processes: this process is one of several already', done.stderr)
        done = self.train('run', 4, '--processes', 2, '--restarts', 1, '--resume', '--data-changed', status=2)
        self.assertIn('--restarts', done.stderr)
        done = self.run_all(self.arguments('run', 4), 2, RANK=2, WORLD_SIZE=2, MASTER_ADDR='x', MASTER_PORT=1)
        self.assertIn('RANK: expected an integer from 0 to 1', done.stderr)


class WatchedTest(RanksTest):
    def start(self, *arguments, **options):
        process = subprocess.Popen(self.arguments(*arguments, **options), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=own_environment())
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        return process

    def is_saved(self, out):
        return (self.root / out / 'checkpoints' / 'latest' / 'state.json').exists()

    def assert_whole(self, out):
        """The newest checkpoint can be gone on from."""
        weights_of(self.root / out)
        json.loads((self.root / out / 'checkpoints' / 'latest' / 'state.json').read_text())


class Killed(WatchedTest):
    def test_a_process_killed_at_random_instants(self):
        seed = int(os.environ.get('XT_RANKS_SEED', str(random.randrange(1 << 30))))
        chosen = random.Random(seed)
        options = {'steps': 120, 'save_every': 10, 'eval_every': 60, 'dropout': 0.1}
        self.train('whole', 4, '--processes', 2, **options)
        hits = 0
        for kill in range(KILLS):
            out = f'killed{kill}'
            with self.subTest(seed=seed, kill=kill):
                process = self.start(out, 4, '--processes', 2, '--restarts', 1, **options)
                wait_until(lambda: len(children_of(process.pid)) == 2 and self.is_saved(out))
                time.sleep(chosen.random() * 0.5)
                ranks = children_of(process.pid)
                rank = chosen.randrange(2)
                if len(ranks) == 2:
                    os.kill(ranks[rank], signal.SIGKILL)
                output, errors = process.communicate(timeout=100)
                self.assertEqual(process.returncode, 0, errors)
                if 'signal' in errors:  # else it was done already
                    hits += 1
                    self.assertIn(f'rank {rank} on {HOST}: its process was ended by signal 9', errors)
                    self.assertIn('starting again from the last checkpoint, 1 of 1', errors)
                self.assertEqual(output.count('finished'), 1)
                self.assert_same('whole', out)
        self.assertGreater(hits, 0)


class Stopped(WatchedTest):
    def test_a_process_that_is_stopped(self):
        for rank in (0, 1):
            with self.subTest(rank=rank):
                out = f'stopped{rank}'
                process = self.start(out, 4, '--processes', 2, steps=100000, save_every=50, rank_timeout=2)
                wait_until(lambda: self.is_saved(out))
                began = time.monotonic()
                os.kill(children_of(process.pid)[rank], signal.SIGSTOP)
                _, errors = process.communicate(timeout=60)
                self.assertLess(time.monotonic() - began, 20)
                self.assertEqual(process.returncode, 1, errors)
                self.assertIn(f'rank {rank} on {HOST}: no sign of life for 2 s', errors)
                self.assertEqual(errors.count('x-transformers:'), 1, errors)
                self.assert_whole(out)


class Failures(WatchedTest):
    def test_a_stop_is_of_all(self):
        process = self.start('run', 4, '--processes', 2, steps=100000, save_every=1000)
        wait_until(lambda: (self.root / 'run' / 'metrics.jsonl').exists()
                   and len(metrics_of(self.root / 'run')) > 2)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, errors)
        self.assertIn('stopped after step', output)
        self.assert_whole('run')

    def test_a_loss_that_is_not_finite_names_its_rank(self):
        rows, length = 32, 8
        numbers = [0.1 * (i % 7) for i in range(rows * length)]
        numbers[5 * length + 3] = 1e30  # its square is more than a float holds
        header = json.dumps({'x': {'dtype': 'F32', 'shape': [rows, length, 1], 'data_offsets': [0, 4 * len(numbers)]}})
        data = self.root / 'series.safetensors'
        data.write_bytes(struct.pack('<Q', len(header)) + header.encode() + struct.pack(f'<{len(numbers)}f', *numbers))
        config = self.root / 'series.json'
        config.write_text(json.dumps({
            'model': {'type': 'ContinuousAutoregressiveWrapper',
                      'net': {'type': 'ContinuousTransformerWrapper', 'dim_in': 1, 'dim_out': 1, 'max_seq_len': length,
                              'attn_layers': {'type': 'Decoder', 'dim': 16, 'depth': 1, 'heads': 2,
                                              'attn_dim_head': 8}}},
            'data': {'path': str(data), 'format': 'tensors', 'batch_size': 4, 'val_fraction': 0},
            'train': {'steps': 8, 'threads': 1, 'progress': 'none', 'plot': False, 'tensorboard': False, 'log_every': 1}}))
        command = [PROGRAM, 'train', '--config', str(config), '--processes', '2', '--out']
        done = self.run_all([*command, str(self.root / 'bad')], 1)
        self.assertRegex(done.stderr, rf'step [1-4]: loss (inf|nan).*the loss of rank [01] on {re.escape(HOST)}\)')
        self.assertEqual(done.stderr.count('not finite'), 1, done.stderr)
        done = self.run_all([*command, str(self.root / 'skipped'), '--skip-nonfinite', '--json'])
        self.assertEqual(json.loads(done.stdout)['skipped_steps'], 2)

    def test_mpirun_ends_with_the_rank(self):
        if not has_mpi():
            self.skipTest('no MPI')
        command = self.mpi(2, self.arguments('run', 4, steps=100000, save_every=50, rank_timeout=2))
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                   env=own_environment(OMPI_ALLOW_RUN_AS_ROOT=1, OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1))
        self.addCleanup(process.stderr.close)
        wait_until(lambda: self.is_saved('run'))
        ranks = [child for child in children_of(process.pid)
                 if 'x-transformers' in Path(f'/proc/{child}/cmdline').read_text()]
        os.kill(ranks[1], signal.SIGSTOP)
        _, errors = process.communicate(timeout=60)
        self.assertNotEqual(process.returncode, 0)
        self.assertIn(f'rank 1 on {HOST}: no sign of life for 2 s', errors)
        self.assert_whole('run')


class Gpus(WatchedTest):
    """--gpus. What needs more GPUs than there are is skipped."""

    def need(self, gpus):
        if gpus_seen() < gpus:
            self.skipTest(f'{gpus_seen()} GPUs that can be joined, and {gpus} are needed')

    def assert_refused(self, expected, *arguments, status=2, **environment):
        done = self.run_all(self.arguments('run', 4, *arguments), status, **environment)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn(expected, done.stderr)

    def test_what_is_refused(self):
        few = 'GPUs cannot be joined: ' if gpus_seen() == 0 else 'expected at most '
        self.assert_refused('--gpus: ' + few, '--gpus', 1000)
        self.assert_refused('--device: --gpus says it', '--gpus', 1, '--device', 'cuda')
        self.assert_refused('--processes', '--gpus', 1, '--processes', 1)
        self.assert_refused('--gpus: this process is one of several already', '--gpus', 2, RANK=0, WORLD_SIZE=2,
                            MASTER_ADDR='x', MASTER_PORT=1)
        self.assert_refused('--gpus', '--gpus', 0)

    def test_devices_by_number_are_refused(self):
        self.assert_refused('--device: expected cpu, or cuda', '--processes', 2, '--device', 'cuda:0')

    def test_one_gpu_joined_is_one_gpu_alone(self):
        self.need(1)
        for name, options in (('plain', {}), ('eager', {'cuda_graph': False}),
                              ('accumulated', {'grad_accum': 2, 'ema_decay': 0.9, 'dropout': 0.1}),
                              ('shares', {'shard': 'optimizer'}), ('parts', {'shard': 'parameters'})):
            with self.subTest(name):
                self.train(f'{name}_alone', 8, '--device', 'cuda', **options)
                done = self.train(f'{name}_joined', 8, '--gpus', 1, **options)
                self.assertEqual(done.stdout.count('finished'), 1)
                self.assertEqual('without a CUDA graph' in done.stderr, name == 'parts')
                self.assert_same_losses(f'{name}_alone', f'{name}_joined', 0)
                self.assert_same(f'{name}_alone', f'{name}_joined')

    def test_one_gpu_resumes_to_the_bit(self):
        self.need(1)
        self.train('whole', 8, '--gpus', 1, steps=6, dropout=0.1)
        self.train('parts', 8, '--gpus', 1, steps=3, dropout=0.1)
        self.train('parts', 8, '--gpus', 1, '--resume', steps=6, dropout=0.1)
        self.assert_same('whole', 'parts')

    def test_two_gpus_agree_with_one(self):
        self.need(2)
        for name, options in (('plain', {}), ('accumulated', {'grad_accum': 2, 'ema_decay': 0.9}),
                              ('shares', {'shard': 'optimizer'}), ('parts', {'shard': 'parameters'})):
            with self.subTest(name):
                self.train(f'{name}1', 8, '--device', 'cuda', **options)
                self.train(f'{name}2', 4, '--gpus', 2, **options)
                self.assert_same_losses(f'{name}1', f'{name}2', 1e-3)
                self.assert_close(f'{name}1', f'{name}2', 1e-3)

    def test_one_of_two_gpus_is_killed_or_stopped(self):
        self.need(2)
        for rank in (0, 1):
            for sent, expected in ((signal.SIGKILL, 'its process was ended by signal 9'),
                                   (signal.SIGSTOP, 'no sign of life for 2 s')):
                with self.subTest(rank=rank, signal=sent):
                    out = f'ended{rank}_{sent}'
                    process = self.start(out, 4, '--gpus', 2, steps=1000000, save_every=50, rank_timeout=2)
                    wait_until(lambda: self.is_saved(out))
                    began = time.monotonic()
                    os.kill(children_of(process.pid)[rank], sent)
                    _, errors = process.communicate(timeout=60)
                    self.assertLess(time.monotonic() - began, 30)
                    self.assertEqual(process.returncode, 1, errors)
                    self.assertIn(f'rank {rank} on {HOST}: {expected}', errors)
                    self.assertEqual(errors.count('x-transformers:'), 1, errors)
                    self.assert_whole(out)


class Hosts(RanksTest):
    """Two network namespaces are two hosts, as far as connections go. Needs root."""

    def setUp(self):
        super().setUp()
        self.names = [f'xt{os.getpid()}{side}' for side in 'ab']
        self.addCleanup(self.remove)
        if os.geteuid() != 0 or shutil.which('ip') is None or not self.make():
            self.skipTest('no network namespaces')

    def make(self):
        a, b = self.names
        commands = [f'netns add {a}', f'netns add {b}', f'link add {a} type veth peer name {b}',
                    *(f'link set {name} netns {name}' for name in self.names),
                    f'-n {a} addr add 10.77.0.1/24 dev {a}', f'-n {b} addr add 10.77.0.2/24 dev {b}',
                    *(f'-n {name} link set {link} up' for name in self.names for link in (name, 'lo'))]
        return all(subprocess.run(['ip', *each.split()], capture_output=True, check=False).returncode == 0
                   for each in commands)

    def remove(self):
        for name in self.names:
            subprocess.run(['ip', 'netns', 'del', name], capture_output=True, check=False)

    def start(self, arguments):
        return [subprocess.Popen(['ip', 'netns', 'exec', name, *arguments], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True,
                                 env=own_environment(**{**of_torchrun(rank, 2, 29511, '10.77.0.1'),
                                                        'LOCAL_RANK': 0, 'LOCAL_WORLD_SIZE': 1}))
                for rank, name in enumerate(self.names)]

    def test_two_hosts_agree_with_one_process(self):
        self.train('one', 8)
        for process in self.start(self.arguments('two', 4)):
            _, errors = process.communicate(timeout=100)
            self.assertEqual(process.returncode, 0, errors)
        self.assert_close('one', 'two')

    def test_a_connection_that_is_cut(self):
        processes = self.start(self.arguments('run', 4, steps=100000, save_every=50, rank_timeout=2))
        latest = self.root / 'run' / 'checkpoints' / 'latest' / 'state.json'
        wait_until(latest.exists)
        subprocess.run(['ip', '-n', self.names[1], 'link', 'set', self.names[1], 'down'], check=True)
        for rank, process in enumerate(processes):
            _, errors = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 1, errors)
            self.assertIn(f'rank {1 - rank} on {HOST}: no sign of life for 2 s', errors)
        weights_of(self.root / 'run')


if __name__ == '__main__':
    unittest.main(verbosity=2)
