"""The peer of rackmark-bench-train: the bare training loop of torchvision's ResNet-50 on this CPU.

usage: pytorch_train.py BATCH STEPS [THREADS [VARIANT [MODEL]]]
VARIANT: channels_last (the fastest for training on CPUs), eager, or compile.

float32, SGD with momentum 0.9 and weight decay 1e-4, one batch of normally distributed pictures,
two warm-up steps. Prints one line that begins like rackmark-bench-train's:
"<img/s of the median step> img/s median (best <img/s>)".
"""
import resource
import sys
import time

import torch
import torchvision


def main():
    batch, steps = int(sys.argv[1]), int(sys.argv[2])
    threads = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    variant = sys.argv[4] if len(sys.argv) > 4 else "channels_last"
    model = sys.argv[5] if len(sys.argv) > 5 else "resnet50"
    if variant not in ("channels_last", "eager", "compile"):
        sys.exit(f"pytorch_train.py: unknown variant '{variant}'")
    if threads > 0:
        torch.set_num_threads(threads)
    torch.manual_seed(1)
    torch.set_flush_denormal(True)
    net = torchvision.models.get_model(model, weights=None).train()
    images = torch.randn(batch, 3, 224, 224)
    labels = torch.randint(0, 1000, (batch,))
    if variant != "eager":
        net = net.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    if variant == "compile":
        net.compile()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4,
                                foreach=True)
    criterion = torch.nn.CrossEntropyLoss()
    seconds = []
    for step in range(2 + steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(net(images), labels)
        loss.backward()
        optimizer.step()
        if step >= 2:
            seconds.append(time.perf_counter() - start)
    seconds.sort()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{batch / seconds[len(seconds) // 2]:.3f} img/s median (best {batch / seconds[0]:.3f}) "
          f"{model} bs{batch} threads {torch.get_num_threads()} {variant} "
          f"torch {torch.__version__} peakRSS {peak:.2f} GB loss {loss.item():.4f}")


main()
