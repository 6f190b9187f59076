"""The Trainer: steps, batches, checkpoints, errors."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from gradport_runtime import CheckpointError, InputError, Trainer, TrainingError

RNG = np.random.default_rng(0)


def batch(rows=6, seed=0):
    rng = np.random.default_rng(seed)
    return {"x": rng.standard_normal((rows, 4)).astype(np.float32), "target": rng.integers(0, 3, rows)}


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_a_resumed_training_goes_on_bit_for_bit(bundle, tmp_path):
    trainer = Trainer(bundle, seed=5)
    for seed in range(3):
        trainer.step(batch(seed=seed))
    trainer.save(tmp_path / "checkpoint.safetensors")
    resumed = Trainer(bundle, resume=tmp_path / "checkpoint.safetensors")
    assert resumed.steps == 3
    for seed in range(3, 6):
        assert trainer.step(batch(seed=seed)) == resumed.step(batch(seed=seed))
    assert same(trainer.state(), resumed.state())


def test_the_halves_make_a_step(bundle):
    whole, halves = Trainer(bundle), Trainer(bundle)
    whole.step(batch())
    halves.apply(halves.gradients(batch()))
    assert same(whole.state(), halves.state())


def test_gradients_of_batches_add_up(bundle):
    trainer, other = Trainer(bundle), Trainer(bundle)
    trainer.accumulate([batch(seed=1), batch(seed=2)])
    start = Trainer(bundle)
    first = start.gradients(batch(seed=1))
    assert first.keys() == {
        name for name in other.state() if not name.startswith(("optim.", "norm.running", "norm.num"))
    }
    assert trainer.steps == 1


def test_fit_goes_over_epochs_and_validates(bundle):
    trainer = Trainer(bundle)
    history = trainer.fit(
        lambda: (batch(seed=seed) for seed in range(5)),
        epochs=2,
        validate=[batch(4), batch(8)],
        accumulate=2,
        progress=False,
    )
    assert trainer.steps == 6 and len(history["steps"]) == 6 and len(history["epochs"]) == 2
    assert set(history["epochs"][0]) == {"loss", "accuracy"}


def test_a_callback_ends_the_training(bundle):
    trainer = Trainer(bundle)
    trainer.fit([batch()] * 9, progress=False, on_step=lambda step, results: step == 4)
    assert trainer.steps == 4


def test_progress_goes_to_the_standard_error_stream(bundle, capsys):
    Trainer(bundle).fit([batch()] * 2, epochs=2)
    out, err = capsys.readouterr()
    assert not out and "epoch 2 of 2" in err and "loss" in err


def test_a_learning_rate_may_be_given(bundle):
    trainer, still = Trainer(bundle), Trainer(bundle)
    before = still.state()
    still.step(batch(), lr=0.0)
    after = still.state()
    assert np.array_equal(before["hidden.weight"], after["hidden.weight"])
    trainer.step(batch(), lr={"lr": 0.5})
    assert not np.array_equal(trainer.state()["hidden.weight"], before["hidden.weight"])
    with pytest.raises(InputError, match="'rate'"):
        trainer.step(batch(), lr={"rate": 1.0})


def test_a_state_is_taken_over_whole_or_not_at_all(bundle):
    trainer, other = Trainer(bundle), Trainer(bundle)
    other.step(batch())
    trainer.load(other.state())
    assert same(trainer.state(), other.state())
    wrong = {**trainer.state(), "hidden.bias": np.zeros(9, np.float32)}
    wrong["hidden.weight"] = wrong["hidden.weight"] + 1
    with pytest.raises(CheckpointError, match=r"hidden\.bias"):
        trainer.load(wrong)
    assert same(trainer.state(), other.state())


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"x": None}, "input-missing", "x is missing"),
        ({"y": np.zeros(1)}, "input-unknown", "'y' is unknown"),
        ({"x": np.zeros((6, 5), np.float32)}, "input-shape", r"\[6, 5\]"),
        ({"x": np.zeros((5, 4), np.float32)}, "input-shape", "batch"),
        ({"x": np.zeros((6, 4), np.complex64)}, "input-dtype", "complex64"),
        ({"target": np.zeros(6, np.float32)}, "input-dtype", "float32"),
        ({"x": [[1.0], [1.0, 2.0]]}, "input-shape", "'x'"),
    ],
)
def test_a_wrong_batch_is_refused_by_name(bundle, change, code, text):
    given = {name: value for name, value in {**batch(), **change}.items() if value is not None}
    trainer = Trainer(bundle)
    with pytest.raises(InputError, match=text) as refusal:
        trainer.step(given)
    assert refusal.value.code == code
    trainer.step(batch())


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_state(bundle):
    trainer = Trainer(bundle)
    trainer.step(batch())
    before = trainer.state()
    with pytest.raises(TrainingError, match="loss of step 2 is nan") as refusal:
        trainer.step({**batch(), "x": np.full((6, 4), np.nan, np.float32)})
    assert refusal.value.code == "not-finite"
    assert same(trainer.state(), before) and trainer.steps == 1
    trainer.step(batch())


def test_lists_and_wider_numbers_are_taken(bundle):
    given = batch()
    wide = {"x": given["x"].astype(np.float64).tolist(), "target": given["target"].astype(np.int32)}
    assert Trainer(bundle).step(wide) == Trainer(bundle).step(given)


def test_an_iterator_lasts_one_epoch(bundle):
    with pytest.raises(InputError, match="iterator"):
        Trainer(bundle).fit(iter([batch()]), epochs=2)


def test_an_interrupt_leaves_a_whole_step(bundle, request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    trainer = Trainer(bundle)
    count = []

    def interrupt(step, results):
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        count.append(step)

    with pytest.raises(KeyboardInterrupt):
        trainer.fit([batch()] * 50, progress=False, on_step=interrupt)
    assert trainer.steps in (3, 4)
    trainer.step(batch())


def test_a_trainer_works_in_a_thread(bundle):
    results = []
    thread = threading.Thread(target=lambda: results.append(Trainer(bundle).step(batch())))
    thread.start()
    thread.join()
    assert results == [Trainer(bundle).step(batch())]


def test_neither_torch_nor_onnx_is_needed(bundle):
    code = (
        "import sys; import numpy as np; from gradport_runtime import Trainer;"
        f"Trainer({str(bundle)!r}).step(x=np.zeros((2, 4), np.float32), target=[0, 1]);"
        "print([name for name in ('torch', 'onnx', 'onnx_ir', 'gradport') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]" and not found.stderr


def test_memory_does_not_grow(bundle):
    trainer = Trainer(bundle, threads=1)
    for _ in range(20):
        trainer.step(batch())
    before = resident()
    for _ in range(500):
        trainer.step(batch())
    assert resident() - before < 4 << 20


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
