"""PyTorch's zipped checkpoints, by `cyclemlp.weights`: as a whole, or a pickle inside a zip that is sound."""

from hostile_files import (
    dictionary,
    one_tensor,
    shared_storage,
    storage,
    tensor,
    torch_zip,
    zip_overlapping,
    zip_with_claim,
    zip_with_directory,
)
from scratch import written

from cyclemlp.weights import read_weights


def seeds():
    programs = (dictionary(w=tensor()), dictionary(w=storage()), dictionary(model=dictionary(w=tensor())))
    yield from (b"P" + program for program in programs)
    zips = (torch_zip(dictionary(w=tensor())), zip_with_claim(2**30), zip_with_directory(2**20, True))
    yield from (b"Z" + content for content in (*zips, zip_overlapping(5), shared_storage(10, 1)))
    yield b"Z" + one_tensor(tensor())


def check(data):
    content = torch_zip(data[1:]) if data[:1] == b"P" else data[1:]
    read_weights(written(content, "a.pth"))
