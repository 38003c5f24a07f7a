"""The flags of `main.py` and `kdfas`. The help of a flag begins with the modes that read it."""

from absl import flags

WORKDIR = flags.DEFINE_string(
    "workdir",
    "",
    "The run's folder; runs/<config>[-<arguments>] by default. predict, serve, adapt, eval --on, selftest and "
    "counterfactual without --config: the released model by default. The last three then write to "
    "runs/released-results.",
)
COORDINATOR = flags.DEFINE_string("coordinator", "", "host:port of process 0, for several processes by hand.")
NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "The number of processes, with --coordinator; 1: alone, under any launcher.", lower_bound=1
)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "The number of this process, with --coordinator.")
INITIALIZATION_TIMEOUT = flags.DEFINE_integer(
    "initialization_timeout", 300, "Seconds that processes wait for each other at the start.", lower_bound=1
)

OUTPUT = flags.DEFINE_string(
    "output",
    "",
    "plan, benchmark, verify: a JSON file; confuse: a CSV file; predict: a CSV file, scores.csv by default; edit: a "
    ".jpg or .png, edits.jpg by default; export: a folder, WORKDIR/export by default; join: the folder of the new run; "
    "eval --runs: a folder, runs/comparison by default; eval --on: a folder, WORKDIR/eval-on-NAME by default; "
    "selftest: a folder, selftest by default, or WORKDIR/selftest with --input; counterfactual: a folder, "
    "WORKDIR/counterfactual by default; adapt: the folder of the new run, WORKDIR-adapted or runs/released-adapted by "
    "default.",
)
ON = flags.DEFINE_string("on", "", "eval: other labelled data, DATASET:RAW such as folder:RAW, or a prepared DATASET.")
RUNS = flags.DEFINE_list("runs", [], "eval: folders of evaluated runs, to be compared in one table and one page.")

INPUT = flags.DEFINE_list(
    "input",
    [],
    "predict: images, videos, folders of them, webcam:0; selftest: the folder of plan.csv, to score it; adapt: a "
    "folder of live pictures.",
)
FRAMES = flags.DEFINE_integer("frames", 8, "predict, adapt: the number of frames of a video.", lower_bound=1)
BATCH = flags.DEFINE_list(
    "batch", [], "predict: the number of images scored together, 16 by default; speed: batch sizes, 1,32 by default."
)
CROPPED = flags.DEFINE_bool("cropped", False, "predict: the images are face crops already.")
ANNOTATE = flags.DEFINE_string("annotate", "", "predict: a folder for copies of the images with boxes and scores.")
REFERENCE = flags.DEFINE_string("reference", "", "predict: a picture of the person that faces are compared with.")

LEVEL = flags.DEFINE_string("level", "ibeta1", "selftest: the amounts of the plan, ibeta1 or ibeta2.")
SUBJECTS = flags.DEFINE_integer("subjects", 10, "selftest: the number of people in the plan.", lower_bound=1)
SPECIES = flags.DEFINE_list("species", [], "selftest: the attack species in the plan; six that need no workshop.")
THRESHOLD_ONLY = flags.DEFINE_bool("threshold_only", False, "adapt: keep the weights, and only set a new threshold.")

BUNDLE = flags.DEFINE_string("bundle", "", "serve: a folder that --mode=export --format=onnx wrote, in place of a run.")
HOST = flags.DEFINE_string("host", "127.0.0.1", "serve: the address to bind; 0.0.0.0 lets other machines in.")
PORT = flags.DEFINE_integer("port", 8000, "serve: the port to bind; 0 takes a free one.", 0, 65535)

FORMAT = flags.DEFINE_list("format", ["onnx"], "export: some of stablehlo, tflite, onnx, onnx_int8.")

SWEEP_BATCH = flags.DEFINE_bool("sweep_batch", False, "plan: find the largest batch that fits the devices' memory.")
TOPOLOGY = flags.DEFINE_string("topology", "cpu:8", "plan: the devices to compile for, cpu:N or v5e:16x16.")

PARTS = flags.DEFINE_list("parts", ["step", "loop", "input"], "benchmark: some of these; step needs no TensorFlow.")
BASELINE = flags.DEFINE_enum(
    "baseline", "", ["", "pytorch", "pytorch_compile"], "benchmark: the implementation that the step is compared with."
)

DATASET = flags.DEFINE_string("dataset", "identity", "verify: the reader of the other data set.")
RAW_DIR = flags.DEFINE_string("raw_dir", "", "verify: the raw data of the other data set.")
OPTIONS = flags.DEFINE_string(
    "options", "{}", 'verify, eval --on: options of the reader in JSON, such as \'{"name": "lfw"}\'.'
)
PAIRS = flags.DEFINE_string("pairs", "", "verify: a list of pairs in the format of LFW; drawn by default.")
STEPS = flags.DEFINE_list(
    "steps", [], "confuse: numbers of the attack's steps, 1,3,5 by default; adapt: training steps, 300 by default."
)
EPS = flags.DEFINE_list("eps", ["2", "4", "8"], "confuse: bounds of the attack, in 255ths.")
FACES = flags.DEFINE_integer("faces", 8, "edit: the number of faces.")


def numbers(flag: flags.FlagHolder, default: tuple, kind: type = int) -> tuple:
    """Returns the positive numbers of a list flag, or `default` where it is empty; ValueError names the flag."""
    text = ",".join(flag.value)
    try:
        found = tuple(kind(part) for part in flag.value)
    except ValueError:
        found = (0,)
    if any(not number > 0 for number in found):
        what = "whole numbers of 1 or more" if kind is int else "numbers above 0"
        raise ValueError(f"--{flag.name}={text}: expected {what}, joined by commas")
    return found or default
