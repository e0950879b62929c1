"""Write the README's figures out of work/results/, so that no number there is without its record.

    python tests/benchmarks/report.py
"""
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START, END = "<!-- results -->\n", "<!-- /results -->"


def read(name):
    return json.loads((ROOT / "work" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def tables():
    """{file: text between the marks}, in both languages."""
    run, data, speed = read("cifar10_t0"), read("data_pipeline"), read("benchmark_t0_224")
    engines = {(row["model"], row["precision"], row["batch"]): row for row in read("inference")["summary"]}
    fast = [engines["fasternet_t0", precision, batch] for precision in ("fp32", "bf16") for batch in (1, 32)]
    lost = {row["precision"]: row for row in read("inference")["accuracy"]["rows"] if row["engine"] == "openvino"}
    lime_name, lime = max(((name, row) for name, row in read("explain")["speed"]["contenders"].items()
                           if name != "InterpretDL 0.8.0"), key=lambda pair: pair[1]["samples_per_second"])
    theirs = read("explain")["speed"]["contenders"]["InterpretDL 0.8.0"]
    operators, paddlex = read("operators"), read("paddlex")
    steps = {row["contender"]: row["images_per_second"] for row in read("train_step")["rows"]
             if row["setting"] == "32/2"}
    torch = {precision: max(value for name, value in steps.items() if name.startswith("PyTorch") and precision in name)
             for precision in ("fp32", "bf16")}
    claims = {(engine, claim["faster"]): claim for engine, found in operators["claims"].items() for claim in found}
    config, seeds = run["run"]["config"], len(run["seeds"])
    trained = {"PConv": _trained(run)}
    if (ROOT / "work" / "results" / "cifar10_t0_dwconv.json").exists():
        trained["DWConv"] = _trained(read("cifar10_t0_dwconv"))
    reached = "; ".join(f"{name} {share} % in {time} minutes" for name, (share, time) in trained.items())
    chinese_reached = "；".join(f"{name} {share} %，用时 {time} 分钟" for name, (share, time) in trained.items())
    size, epochs = config["image_size"], config["epochs"]
    rates = {name: f"{value['images_per_second']:,}" for name, value in data["rates"].items()}
    small, large, _, paddle_way, _ = rates.values()
    alone, whole, one = (speed[key] for key in ("throughput", "pipeline", "latency"))
    machine = f"{speed['machine']['name']}, {speed['machine']['cores']}"
    english = f"""\
On two cores ({machine} cores, {speed['machine']['threads']} threads, Paddle {speed['machine']['paddle']}); ratios are \
medians of paired rounds; records and commands in `work/results/`:

| | |
|---|---|
| CIFAR-10 (*), T0 from scratch, recipe `cpu` ({size} x {size}, {epochs} epochs), {seeds} \
seed{'s' if seeds > 1 else ''} | {reached} |
| a training step of T0, 32 x 32, patch_size 2, batch 256, fp32 / bf16 | {steps['ours, fp32']:,.0f} / \
{steps['ours, bf16']:,.0f} images/s; Paddle's layers {steps['Paddle eager, fp32']:,.0f}, \
PyTorch {torch['fp32']:,.0f} / {torch['bf16']:,.0f} |
| T0 at 224 x 224, one image | {1e3 * one['median']:.1f} ms |
| T0 at 224 x 224, batch {alone['images']}, network alone / from images to classes | \
{alone['images_per_second']:,.0f} / {whole['images_per_second']:,.0f} images/s |
| the same through `Predictor` (folded; {fast[1]['ours'].split(': ')[1]}), fp32, one image / batch 32 | \
{fast[0]['ours_images_per_second']:,.0f} / {fast[1]['ours_images_per_second']:,.0f} images/s, \
{fast[0]['ratio']:.2f} / {fast[1]['ratio']:.2f} times the best of the other engines ({_peer(fast[1])}) |
| bf16, one image / batch 32 | {fast[2]['ours_images_per_second']:,.0f} / {fast[3]['ours_images_per_second']:,.0f} \
images/s, {fast[2]['ratio']:.2f} / {fast[3]['ratio']:.2f} times the best of the other engines ({_peer(fast[3])}) |
| change in accuracy by bf16 / int8 (OpenVINO), shipped network | {_gained(lost['bf16'])} / \
{_gained(lost['int8'])} points |
| PaddleX {paddlex['versions']['paddlex']} on the exported folder | the same class for \
{paddlex['same_top1']:,} of {paddlex['images']:,} images |
| LIME, T0 at 224 x 224 ({lime_name}) | {lime['samples_per_second']:,.0f} samples/s, \
{lime['times_interpretdl']:.1f} times InterpretDL ({theirs['samples_per_second']:.0f}) |
| the paper's claims on this device: T0 over MobileViT-XXS {claims['eager', 'fasternet_t0']['paper']} times, L over \
Swin-B {claims['eager', 'fasternet_l']['paper']} times as fast | eager {claims['eager', 'fasternet_t0']['here']} and \
{claims['eager', 'fasternet_l']['here']}; Paddle Inference {claims['paddle', 'fasternet_t0']['here']} and \
{claims['paddle', 'fasternet_l']['here']} times |
| loader, 32 pixels, flip, shift, normalise | {small} images/s |
| loader, 224 pixels, the 2023 notebook's transforms | {large} images/s, {data['ratio_at_224']:.1f} times \
`paddle.vision.transforms` with two workers ({paddle_way}) |

(*) The archive is not the official one: its images went through JPEG once, and it has \
{run['run']['data']['val_images']:,} \
test images instead of 10,000. The accuracy is the last epoch's.
"""
    chinese = f"""\
两核 CPU（{machine} 核，{speed['machine']['threads']} 个线程，飞桨 {speed['machine']['paddle']}）；\
倍数为成对测量之比的中位数；记录与命令见 `work/results/`：

| | |
|---|---|
| CIFAR-10（*），T0 从头训练，配方 `cpu`（{size} x {size}，{epochs} 轮），{seeds} 个随机种子 \
| {chinese_reached} |
| T0 的一个训练步，32 x 32，patch_size 2，批大小 256，fp32 / bf16 | {steps['ours, fp32']:,.0f} / \
{steps['ours, bf16']:,.0f} 张/秒；飞桨的层 {steps['Paddle eager, fp32']:,.0f}，PyTorch {torch['fp32']:,.0f} / \
{torch['bf16']:,.0f} |
| T0，224 x 224，单张图像 | {1e3 * one['median']:.1f} 毫秒 |
| T0，224 x 224，批大小 {alone['images']}，仅网络 / 端到端（含预处理） | \
{alone['images_per_second']:,.0f} / {whole['images_per_second']:,.0f} 张/秒 |
| 同上，用 `Predictor`（已融合 BatchNorm；{fast[1]['ours'].split(': ')[1]}），fp32，单张 / 批大小 32 | \
{fast[0]['ours_images_per_second']:,.0f} / {fast[1]['ours_images_per_second']:,.0f} 张/秒，\
是其他引擎中最快者（{_peer(fast[1])}）的 {fast[0]['ratio']:.2f} / {fast[1]['ratio']:.2f} 倍 |
| bf16，单张 / 批大小 32 | {fast[2]['ours_images_per_second']:,.0f} / {fast[3]['ours_images_per_second']:,.0f} 张/秒，\
是其他引擎中最快者（{_peer(fast[3])}）的 {fast[2]['ratio']:.2f} / {fast[3]['ratio']:.2f} 倍 |
| bf16 / int8（OpenVINO）带来的准确率变化（百分点），随库附带的网络 | {_gained(lost['bf16'])} / \
{_gained(lost['int8'])} |
| PaddleX {paddlex['versions']['paddlex']} 打开导出的文件夹 | {paddlex['images']:,} 张图像中 \
{paddlex['same_top1']:,} 张类别相同 |
| LIME，T0，224 x 224（本库，{lime_name.split(", ")[1]}） | {lime['samples_per_second']:,.0f} 个样本/秒，是 InterpretDL\
（{theirs['samples_per_second']:.0f}）的 {lime['times_interpretdl']:.1f} 倍 |
| 论文的结论在这台设备上：T0 比 MobileViT-XXS 快（论文 {claims['eager', 'fasternet_t0']['paper']} 倍）、L 比 Swin-B \
快（论文 {claims['eager', 'fasternet_l']['paper']} 倍） | 动态图 {claims['eager', 'fasternet_t0']['here']} 与 \
{claims['eager', 'fasternet_l']['here']} 倍；Paddle Inference {claims['paddle', 'fasternet_t0']['here']} 与 \
{claims['paddle', 'fasternet_l']['here']} 倍 |
| 数据加载，32 像素，翻转、平移、归一化 | {small} 张/秒 |
| 数据加载，224 像素，2023 年的 Notebook 的数据增强 | {large} 张/秒，是 `paddle.vision.transforms` 配合两个进程\
（{paddle_way}）的 {data['ratio_at_224']:.1f} 倍 |

（*）所用压缩包不是官方的：图像经过一次 JPEG 压缩，测试图像为 {run['run']['data']['val_images']:,} 张而不是 10,000 张。\
准确率取自最后一轮。
"""
    return {"README.md": english, "README.zh-CN.md": chinese}


def _trained(record):
    """(accuracy in percent with its spread over seeds, minutes)"""
    spread = f" ± {100 * record['stdev']:.2f}" if record["stdev"] is not None else ""
    return f"{100 * record['mean']:.2f}{spread}", " / ".join(f"{seconds / 60:.0f}" for seconds in record["seconds"])


def _peer(row):
    return row["peer"].split(",")[0]


def _gained(row):
    return f"{0 - row['points_lost']:+.2f}"  # 0 - 0 has no minus


def between(text):
    return text.split(START)[1].split(END)[0]


def main():
    for name, table in tables().items():
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(START + between(text) + END, START + table + END), encoding="utf-8")
        print(f"{name}: written")


if __name__ == "__main__":
    main()
