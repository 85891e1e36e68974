"""The peer of rackmark-bench-train and rackmark-bench-infer: the bare loop of a torchvision model on
this CPU.

usage: pytorch_loop.py train|infer MODEL BATCH STEPS [THREADS [VARIANT]]
VARIANT: eager, channels_last (the fastest for training on CPUs), compile (frozen in inference, the
fastest there), or jit (inference only: traced, frozen, optimised).

float32; training is SGD with momentum 0.9 and weight decay 1e-4, auxiliary heads count as in the
papers. One batch of normally distributed pictures, two warm-up steps. Prints one line that begins
like the peer's: "<img/s of the median step> img/s median (best <img/s>)".
"""
import resource
import sys
import time

import torch
import torchvision

AUXILIARY_WEIGHT = {"googlenet": 0.3, "inception_v3": 0.4}


def make_net(name, training):
    extra = {"aux_logits": training, "init_weights": False} if name in AUXILIARY_WEIGHT else {}
    return torchvision.models.get_model(name, weights=None, **extra).train(training)


def training_step(net, name, images, labels):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4,
                                foreach=True)
    criterion = torch.nn.CrossEntropyLoss()

    def step():
        optimizer.zero_grad(set_to_none=True)
        out = net(images)
        heads = out if isinstance(out, tuple) else (out,)
        loss = criterion(heads[0], labels)
        for auxiliary in heads[1:]:
            loss = loss + AUXILIARY_WEIGHT[name] * criterion(auxiliary, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def inference_step(net, images):
    def step():
        with torch.inference_mode():
            return net(images).flatten()[0].item()

    return step


def main():
    mode, name, batch, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    threads = int(sys.argv[5]) if len(sys.argv) > 5 else 0
    training = mode == "train"
    variant = sys.argv[6] if len(sys.argv) > 6 else ("channels_last" if training else "compile")
    if mode not in ("train", "infer") or variant not in ("eager", "channels_last", "compile", "jit"):
        sys.exit(__doc__)
    if threads > 0:
        torch.set_num_threads(threads)
    torch.manual_seed(1)
    torch.set_flush_denormal(True)
    net = make_net(name, training)
    size = 299 if name == "inception_v3" else 224
    images = torch.randn(batch, 3, size, size)
    labels = torch.randint(0, 1000, (batch,))
    if variant in ("channels_last", "compile"):
        net = net.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    if variant == "compile":
        from torch._inductor import config

        config.freezing = not training
        net.compile()
    if variant == "jit":
        with torch.no_grad():
            net = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(net, images)))
    step = training_step(net, name, images, labels) if training else inference_step(net, images)
    seconds = []
    for number in range(2 + steps):
        start = time.perf_counter()
        last = step()
        if number >= 2:
            seconds.append(time.perf_counter() - start)
    seconds.sort()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{batch / seconds[len(seconds) // 2]:.3f} img/s median (best {batch / seconds[0]:.3f}) "
          f"{name} {mode} bs{batch} threads {torch.get_num_threads()} {variant} "
          f"torch {torch.__version__} peakRSS {peak:.2f} GB, last value {last:.4f}")


main()
