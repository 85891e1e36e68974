#!/usr/bin/env python3
"""The PyTorch side of the comparison on one GPU: the bare loop of ResNet-50 or Inception v3.

usage: pytorch_gpu.py train|infer --variant NAME [--model resnet50|inception_v3]
                      [--precision fp32|tf32|bf16|fp16] [--batch N] [--seconds S] [--warm-seconds S]
                      [--rounds N] [--serve]

Training: channels-last, autocast for bf16 and fp16 (fp16 with GradScaler), SGD with momentum 0.9 and
weight decay 1e-4, the auxiliary head counts 0.4. Inference: channels-last, values in the precision,
inference_mode, compiled variants frozen. One batch of normally distributed pictures lies on the device.
A window is at least --seconds long, between two synchronisations, after --warm-seconds of steps that
do not count. cuDNN's choice of engines is by timing (benchmark), without a limit on how many it tries.

Variants: eager; compile (torch.compile as it comes), compile-graphs (reduce-overhead), compile-max
(max-autotune-no-cudagraphs: minutes to compile); eager-graphs (a CUDA graph of the eager pass;
inference only).

Prints lines of JSON: {"ready": ...} after the first steps, then one for each window. A variant that
fails says why in "error". The nets are torchvision's, defined here because it may be absent.
--serve: a window for every line on standard input, so that rounds of several programs can alternate.
"""
import argparse
import ctypes
import json
import math
import signal
import statistics
import sys
import time
import traceback

import torch
import torch.nn.functional as F
from torch import nn

AUXILIARY_WEIGHT = 0.4
PARAMETERS = {"resnet50": 25_557_032, "inception_v3": 27_161_264}
IMAGE_SIZE = {"resnet50": 224, "inception_v3": 299}
TYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
COMPILE_MODES = {"compile": "default", "compile-graphs": "reduce-overhead",
                 "compile-max": "max-autotune-no-cudagraphs"}
VARIANTS = (*COMPILE_MODES, "eager", "eager-graphs")
PR_SET_PDEATHSIG = 1


class Bottleneck(nn.Module):
    """v1.5: the stride is in the 3x3 convolution."""

    def __init__(self, inputs, width, stride):
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        x += shortcut
        return self.relu(x)


class ResNet50(nn.Module):
    def __init__(self, classes=1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(64), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        blocks, inputs = [], 64
        for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for number in range(count):
                blocks.append(Bottleneck(inputs, width, stride if number == 0 else 1))
                inputs = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = F.adaptive_avg_pool2d(self.blocks(x), 1)
        return self.fc(torch.flatten(x, 1))


class Conv(nn.Module):
    """Inception's convolution, batch norm and ReLU."""

    def __init__(self, inputs, outputs, kernel, **options):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, bias=False, **options)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)), inplace=True)


def seven(inputs, middle, outputs, kernels):
    """Convolutions of 1x7 ("w") and 7x1 ("h") one after the other."""
    layers = []
    for position, kind in enumerate(kernels):
        to = outputs if position + 1 == len(kernels) else middle
        shape = ((1, 7), (0, 3)) if kind == "w" else ((7, 1), (3, 0))
        layers.append(Conv(inputs, to, shape[0], padding=shape[1]))
        inputs = to
    return layers


class Pooled(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = Conv(inputs, outputs, 1)

    def forward(self, x):
        return self.conv(F.avg_pool2d(x, 3, 1, 1))


class Split(nn.Module):
    """Two convolutions, 1x3 and 3x1, of the same value, side by side."""

    def __init__(self, channels):
        super().__init__()
        self.a = Conv(channels, channels, (1, 3), padding=(0, 1))
        self.b = Conv(channels, channels, (3, 1), padding=(1, 0))

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x)], 1)


class Branches(nn.Module):
    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


def block_a(inputs, pooled):
    return Branches(
        Conv(inputs, 64, 1),
        nn.Sequential(Conv(inputs, 48, 1), Conv(48, 64, 5, padding=2)),
        nn.Sequential(Conv(inputs, 64, 1), Conv(64, 96, 3, padding=1), Conv(96, 96, 3, padding=1)),
        Pooled(inputs, pooled))


def block_b(inputs):
    return Branches(
        Conv(inputs, 384, 3, stride=2),
        nn.Sequential(Conv(inputs, 64, 1), Conv(64, 96, 3, padding=1), Conv(96, 96, 3, stride=2)),
        nn.MaxPool2d(3, 2))


def block_c(inputs, middle):
    return Branches(
        Conv(inputs, 192, 1),
        nn.Sequential(Conv(inputs, middle, 1), *seven(middle, middle, 192, "wh")),
        nn.Sequential(Conv(inputs, middle, 1), *seven(middle, middle, 192, "hwhw")),
        Pooled(inputs, 192))


def block_d(inputs):
    return Branches(
        nn.Sequential(Conv(inputs, 192, 1), Conv(192, 320, 3, stride=2)),
        nn.Sequential(Conv(inputs, 192, 1), *seven(192, 192, 192, "wh"), Conv(192, 192, 3, stride=2)),
        nn.MaxPool2d(3, 2))


def block_e(inputs):
    return Branches(
        Conv(inputs, 320, 1),
        nn.Sequential(Conv(inputs, 384, 1), Split(384)),
        nn.Sequential(Conv(inputs, 448, 1), Conv(448, 384, 3, padding=1), Split(384)),
        Pooled(inputs, 192))


class Auxiliary(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.conv0, self.conv1 = Conv(inputs, 128, 1), Conv(128, 768, 5)
        self.fc = nn.Linear(768, classes)

    def forward(self, x):
        x = self.conv1(self.conv0(F.avg_pool2d(x, 5, 3)))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class InceptionV3(nn.Module):
    def __init__(self, classes=1000):
        super().__init__()
        self.stem = nn.Sequential(
            Conv(3, 32, 3, stride=2), Conv(32, 32, 3), Conv(32, 64, 3, padding=1), nn.MaxPool2d(3, 2),
            Conv(64, 80, 1), Conv(80, 192, 3), nn.MaxPool2d(3, 2))
        self.mixed = nn.Sequential(
            block_a(192, 32), block_a(256, 64), block_a(288, 64), block_b(288),
            block_c(768, 128), block_c(768, 160), block_c(768, 160), block_c(768, 192))
        self.auxiliary = Auxiliary(768, classes)
        self.top = nn.Sequential(block_d(768), block_e(1280), block_e(2048))
        self.dropout, self.fc = nn.Dropout(0.5), nn.Linear(2048, classes)

    def forward(self, x):
        x = self.mixed(self.stem(x))
        auxiliary = self.auxiliary(x) if self.training else None
        x = torch.flatten(F.adaptive_avg_pool2d(self.top(x), 1), 1)
        x = self.fc(self.dropout(x))
        return (x, auxiliary) if self.training else x


def make_net(name):
    torch.manual_seed(1)
    net = {"resnet50": ResNet50, "inception_v3": InceptionV3}[name]()
    count = sum(parameter.numel() for parameter in net.parameters())
    if count != PARAMETERS[name]:
        raise RuntimeError(f"{name} has {count} parameters, wanted {PARAMETERS[name]}")
    return net


def loss_of(out, labels):
    if isinstance(out, tuple):
        return F.cross_entropy(out[0], labels) + AUXILIARY_WEIGHT * F.cross_entropy(out[1], labels)
    return F.cross_entropy(out, labels)


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def set_arithmetic(precision):
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.benchmark_limit = 0  # 10 by default; 0: all of them
    torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.allow_tf32 = precision != "fp32"


def begin_step(variant):
    """Outputs of the last step may be overwritten."""
    if variant == "compile-graphs":
        torch.compiler.cudagraph_mark_step_begin()


def pictures(options, device):
    size = options.image_size or IMAGE_SIZE[options.model]
    images = torch.randn(options.batch, 3, size, size, device=device)
    labels = torch.randint(0, 1000, (options.batch,), device=device)
    return images.to(memory_format=torch.channels_last), labels


def training_step(options, variant, device):
    if variant == "eager-graphs":
        raise ValueError("eager-graphs is for inference")
    net = make_net(options.model).to(device, memory_format=torch.channels_last).train()
    images, labels = pictures(options, device)
    # The fused update is CUDA's.
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4,
                                fused=device == "cuda")
    scaler = torch.amp.GradScaler(device, enabled=options.precision == "fp16" and device == "cuda")
    kind = TYPES[options.precision]
    run = torch.compile(net, mode=COMPILE_MODES[variant]) if variant in COMPILE_MODES else net

    def step():
        begin_step(variant)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype=kind, enabled=kind != torch.float32):
            loss = loss_of(run(images), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return step


def captured(pass_once):
    """A CUDA graph of the pass; three passes before it, as PyTorch's notes ask for."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            pass_once()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = pass_once()

    def replay():
        graph.replay()
        return out

    return replay


def inference_step(options, variant, device):
    kind = TYPES[options.precision]
    net = make_net(options.model).eval().to(device, kind, memory_format=torch.channels_last)
    images, _ = pictures(options, device)
    images = images.to(kind)
    run = net
    if variant in COMPILE_MODES:
        from torch._inductor import config

        config.freezing = True
        run = torch.compile(net, mode=COMPILE_MODES[variant])

    def step():
        begin_step(variant)
        with torch.inference_mode():
            return run(images)

    return captured(step) if variant == "eager-graphs" else step


def run_steps(step, count, device):
    """Seconds for so many steps in a row, and what the last one gave."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(count):
        out = step()
    synchronize(device)
    return time.perf_counter() - start, out


def warm(step, seconds, device):
    """Steps that do not count, for at least that long; the time of one."""
    count, taken = 1, 0.0
    until = time.perf_counter() + seconds
    while True:
        taken, _ = run_steps(step, count, device)
        if time.perf_counter() >= until:
            return taken / count
        count = max(1, min(2 * count, math.ceil(count * (until - time.perf_counter()) / taken)))


def window(step, options, device):
    """Throughput of steps in a row; for inference also the time of each alone."""
    count = math.ceil(options.seconds / warm(step, options.warm_seconds, device))
    seconds, out = run_steps(step, count, device)
    last = float(out.flatten()[0])
    facts = {"images_per_s": count * options.batch / seconds, "steps": count, "window_s": seconds,
             "last_value": last if math.isfinite(last) else None}
    if options.mode == "infer":
        facts["p50_ms"] = statistics.median(
            1e3 * run_steps(step, 1, device)[0] for _ in range(math.ceil(count / 4)))
    return facts


def memory_of(device):
    if device != "cuda":
        return {"max_memory_allocated": None, "max_memory_reserved": None}
    return {"max_memory_allocated": torch.cuda.max_memory_allocated(),
            "max_memory_reserved": torch.cuda.max_memory_reserved()}


def say(line):
    print(json.dumps(line), flush=True)


def about(options):
    return {"side": "pytorch", "mode": options.mode, "model": options.model, "variant": options.variant,
            "precision": options.precision, "batch": options.batch}


def measure(options):
    device = options.device
    set_arithmetic(options.precision)
    start = time.perf_counter()
    step = (training_step if options.mode == "train" else inference_step)(options, options.variant, device)
    step()
    synchronize(device)
    first_step_s = time.perf_counter() - start
    for _ in range(3):  # reduce-overhead records in the second and third
        step()
    synchronize(device)
    if device == "cuda":  # timing engines takes memory that steps do not
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        step()
        synchronize(device)
    facts = {**about(options), "first_step_s": first_step_s, "torch": torch.__version__,
             "device": torch.cuda.get_device_name() if device == "cuda" else device}
    say({**facts, "ready": options.variant})
    for number in range(options.rounds):
        if options.serve and not sys.stdin.readline():
            return
        say({**facts, "round": number, **window(step, options, device), **memory_of(device)})


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("mode", choices=("train", "infer"))
    parser.add_argument("--variant", choices=VARIANTS, default="eager")
    parser.add_argument("--model", choices=PARAMETERS, default="resnet50")
    parser.add_argument("--precision", choices=TYPES, default="fp16")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=4, help="of a window, at least")
    parser.add_argument("--warm-seconds", type=float, default=1, help="before each window")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--image-size", type=int, default=0, help="default: the model's")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda",
                        help="cpu: tries this script, measures nothing of interest")
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    if min(options.batch, options.rounds) < 1 or options.seconds <= 0 or options.warm_seconds < 0:
        parser.error("batch and rounds must be at least 1, seconds above 0, warm-seconds at least 0")
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("pytorch_gpu.py: this PyTorch sees no GPU")
    return options


def main():
    options = parse_arguments()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # none of these outlives its caller
    try:
        measure(options)
    except Exception as error:  # whatever a compiler throws
        traceback.print_exc()
        say({**about(options), "error": f"{type(error).__name__}: {str(error).strip()[:300]}"})
        sys.exit(1)


if __name__ == "__main__":
    main()
