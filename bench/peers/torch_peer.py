"""PyTorch on the CPU as a peer of sop-gpu: reads requests as lines of JSON, answers each with a line of JSON.

{"prepare": work, "settings": {...}, "inputs": {name: [file, shape]}}  ->  {"ok": true}
{"run": times}                                                          ->  {"ms": of all, together}
{"result": file}                                                        ->  {"ok": true}, f32 written to the file
"""
import json
import sys
import time

import torch
import torch.nn.functional as F

run = None
last = None


def encoder(p, images, heads, patch, depth):
    batch = images.shape[0]
    x = F.conv2d(images, p["patch_embed.proj.weight"].view(-1, images.shape[1], patch, patch), p["patch_embed.proj.bias"], stride=patch)
    x = x.flatten(2).transpose(1, 2)
    width = x.shape[2]
    x = torch.cat([p["cls_token"].expand(batch, 1, width), x], 1) + p["pos_embed"]
    length = x.shape[1]
    norm = lambda x, name: F.layer_norm(x, (width,), p[name + ".weight"], p[name + ".bias"], 1e-6)
    linear = lambda x, name: F.linear(x, p[name + ".weight"], p[name + ".bias"])
    for i in range(depth):
        at = f"blocks.{i}."
        qkv = linear(norm(x, at + "norm1"), at + "attn.qkv").view(batch, length, 3, heads, width // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width)
        x = x + linear(attended, at + "attn.proj")
        x = x + linear(F.gelu(linear(norm(x, at + "norm2"), at + "mlp.fc1")), at + "mlp.fc2")
    return norm(x, "norm").reshape(batch * length, width)


def encode(inputs, settings):
    images, cotangent = inputs.pop("images"), inputs.pop("cotangent")
    vit = settings["vit"]
    forward = lambda: encoder(inputs, images, vit["heads"], vit["patch"], vit["depth"])
    if not settings["backward"]:
        def inference():
            with torch.no_grad():
                return forward()
        return inference
    for value in inputs.values():
        value.requires_grad_(True)

    def step():
        gradients = torch.autograd.grad((forward() * cotangent).sum(), list(inputs.values()))
        return gradients[list(inputs).index("blocks.0.attn.qkv.weight")]
    return step


def sop_head(inputs, settings):
    """Y as a matrix ("dense"), or its two values a row put into sums over each prototype's members ("structured")."""
    student, teacher, support, shares = (inputs[name] for name in ("student", "teacher", "support", "shares"))
    images, views, sops, members = (settings[name] for name in ("images", "views", "sops", "members"))
    others = (1 - shares) / (sops - 1)
    student.requires_grad_(True)

    def labels():
        y = others[:, None].expand(-1, sops).clone()
        y[torch.arange(len(shares)), torch.arange(len(shares)) // members] = shares
        return y

    def dense(u, tau, y):
        return torch.softmax(u @ support.T / tau, 1) @ y

    def structured(u, tau, _):
        p = torch.softmax(u @ support.T / tau, 1)
        rest = p * others
        own = (p * shares - rest).view(len(u), sops, members).sum(2)
        return own + rest.sum(1, keepdim=True)

    probabilities = dense if settings["form"] == "dense" else structured
    row = torch.arange(views * images)
    view, image = row // images, row % images

    def step():
        y = labels() if settings["form"] == "dense" else None  # D is drawn anew at each step, and so is Y
        ours = probabilities(student, settings["studentTemp"], y)
        with torch.no_grad():
            theirs = probabilities(teacher, settings["teacherTemp"], y)
        log = torch.log(ours)
        loss = 0
        for other in range(2):
            use = view != other
            loss = loss - (theirs[other * images + image[use]] * log[use]).sum()
        return torch.autograd.grad(loss / (images * (2 * views - 2)), [student])[0]
    return step


def load(file, shape):
    return torch.frombuffer(bytearray(open(file, "rb").read()), dtype=torch.float32).reshape(shape)


for line in sys.stdin:
    request = json.loads(line)
    answer = {"ok": True}
    if "prepare" in request:
        inputs = {name: load(*entry) for name, entry in request["inputs"].items()}
        run = {"encoder": encode, "sop_head": sop_head}[request["prepare"]](inputs, request["settings"])
    elif "run" in request:
        start = time.perf_counter()
        for _ in range(request["run"]):
            last = run()
        answer = {"ms": 1000 * (time.perf_counter() - start)}
    elif "result" in request:
        open(request["result"], "wb").write(last.detach().contiguous().numpy().tobytes())
    print(json.dumps(answer), flush=True)
