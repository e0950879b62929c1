"""Write the README's figures out of work/results/, so that no number there is without its record.

    python benchmarks/report.py

Where both mixers' trainings are on record by the same recipe, it draws them over time too: cifar10_time.png.

A column is a machine: records in work/results/ itself are the first one's, a folder in it holds another one's. What a
machine has no record of is a dash.
"""
import json
import statistics
from pathlib import Path

from paddle_fasternet import History, plots

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = "cifar10_t0_long"  # the record of the network that is shipped
START, END = "<!-- results -->\n", "<!-- /results -->"
AIRBENCH = "https://github.com/KellerJordan/cifar10-airbench"
MACHINES = {"": "Intel Xeon, AMX", "zen4": "AMD EPYC (Zen 4), AVX512-BF16"}  # folder: what to call it


def read(name, folder=""):
    """A record, or None where this machine has none."""
    path = ROOT / "work" / "results" / folder / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


# ---- a row's cell: (English, Chinese) out of one machine's record ----

def _folder(run):
    """The machine in ``MACHINES`` that a training ran on."""
    return "zen4" if run["machine"]["name"].startswith("AMD") else ""


def _trained(record, folder):
    here = [run for run in record["runs"] if _folder(run) == folder]
    if not here:
        return None
    seeds, epochs = len(record["runs"]), record["runs"][0]["config"]["epochs"]
    spread = f" ± {100 * record['stdev']:.2f}" if record["stdev"] is not None else ""
    minutes = " / ".join(f"{run['train_seconds'] / 60:.0f}" for run in here)
    share = f"**{100 * record['mean']:.2f}{spread} %**"
    of_them = (f", {len(here)} of them here", f"，其中 {len(here)} 个在此机器上") if len(here) < seeds else ("", "")
    return (f"{share} ({seeds} seed{'s' if seeds > 1 else ''}{of_them[0]}), {epochs} epochs, "
            f"{minutes} minutes of training",
            f"{share}（{seeds} 个随机种子{of_them[1]}），{epochs} 轮，训练 {minutes} 分钟")


def _step(record, setting):
    speeds = {row["contender"]: row["images_per_second"] for row in record["rows"] if row["setting"] == setting}
    if not speeds:
        return None
    torch = {precision: max((value for name, value in speeds.items() if name.startswith("PyTorch")
                             and precision in name), default=float("nan")) for precision in ("fp32", "bf16")}
    ours = f"{speeds['ours, fp32']:,.0f} / {speeds['ours, bf16']:,.0f}"
    peers = f"{torch['fp32']:,.0f} / {torch['bf16']:,.0f}"
    # "Paddle eager" of this record is not shown: the native kernels had slowed Paddle down in the process it ran in
    return f"{ours} images/s; PyTorch {peers}", f"{ours} 张/秒；PyTorch {peers}"


def _eager(record):
    alone, whole, one = (record[key]["images_per_second"] for key in ("throughput", "pipeline", "latency"))
    speeds = f"{one:,.0f} / {alone:,.0f} / {whole:,.0f}"
    return f"{speeds} images/s", f"{speeds} 张/秒"


def _engines(record, model, precision):
    found = {(row["model"], row["precision"], row["batch"]): row for row in record["summary"]}
    one, many = (found[model, precision, batch] for batch in (1, 32))
    speeds = f"{one['ours_images_per_second']:,.0f} / {many['ours_images_per_second']:,.0f}"
    ratios = f"{one['ratio']:.2f} / {many['ratio']:.2f}"
    engine = " / ".join(dict.fromkeys(row["ours"].split(": ")[1] for row in (one, many)))
    peer = " / ".join(dict.fromkeys(row["peer"].split(",")[0] for row in (one, many)))
    return (f"{speeds} images/s ({engine}), {ratios} times {peer}",
            f"{speeds} 张/秒（{engine}），是 {peer} 的 {ratios} 倍")


def _is_shipped(record):
    """Whether a record of inference.py has the accuracy of the network that is shipped now."""
    return record["accuracy"].get("weights") == read(SHIPPED)["shipped"]["weights"]


def _changed(record):
    if not _is_shipped(record):
        return None
    gained = {(row["engine"], row["precision"]): f"{0 - row['points_lost']:+.2f}"  # 0 - 0 has no minus
              for row in record["accuracy"]["rows"]}
    text = " / ".join(gained["openvino", precision] for precision in ("bf16", "int8"))
    return f"{text} points", f"{text} 个百分点"


def _paddlex(record):
    same, images = f"{record['same_top1']:,}", f"{record['images']:,}"
    return f"the same class for {same} of {images} images", f"{images} 张图像中 {same} 张类别相同"


def _lime(record):
    contenders = record["speed"]["contenders"]
    theirs = contenders["InterpretDL 0.8.0"]["samples_per_second"]
    name, best = max(((name, row) for name, row in contenders.items() if not name.startswith("InterpretDL")),
                     key=lambda pair: pair[1]["samples_per_second"])
    speed, times, engine = f"{best['samples_per_second']:,.0f}", f"{best['times_interpretdl']:.1f}", name.split(", ")[1]
    return (f"{speed} samples/s ({engine}), {times} times InterpretDL ({theirs:.0f})",
            f"{speed} 个样本/秒（{engine}），是 InterpretDL（{theirs:.0f}）的 {times} 倍")


def _claims(record, faster):
    here = {engine: next(claim["here"] for claim in claims if claim["faster"] == faster)
            for engine, claims in record["claims"].items()}
    return (f"eager {here['eager']}, Paddle Inference {here['paddle']} times",
            f"动态图 {here['eager']} 倍，Paddle Inference {here['paddle']} 倍")


def _loader(record, large):
    small, at_224, _, paddle_way, _ = (f"{rate['images_per_second']:,}" for rate in record["rates"].values())
    if not large:
        return f"{small} images/s", f"{small} 张/秒"
    times = f"{record['ratio_at_224']:.1f}"
    return (f"{at_224} images/s, {times} times `paddle.vision.transforms` with two workers ({paddle_way})",
            f"{at_224} 张/秒，是 `paddle.vision.transforms` 配合两个进程（{paddle_way}）的 {times} 倍")


def _photographs(record):
    ways = {row["way"]: row for row in record["rows"]}
    share = {way: f"{100 * row['accuracy']:.2f} %" for way, row in ways.items()}
    minutes, data = f"{ways['cifar10']['seconds'] / 60:.0f}", record["data"]
    return (f"**{share['cifar10']}** in {minutes} minutes ({data['train']:,} pictures, {data['validation']} to test); "
            f"with `merge_sizes=(2, 2, 2)`, which is faster, {share['coarse stages']}, and that from scratch "
            f"{share['scratch, coarse stages']}",
            f"{minutes} 分钟达到 **{share['cifar10']}**（{data['train']:,} 张训练，{data['validation']} 张测试）；"
            f"改用更快的 `merge_sizes=(2, 2, 2)` 为 {share['coarse stages']}，同样设置从头训练为 "
            f"{share['scratch, coarse stages']}")


def _folder_loader(record):
    speed = {row["contender"]: row["images_per_second"] for row in record["rates"]}["ours, decoded every time"]
    times = f"{record['over_opencv']:.1f} / {record['over_pil']:.1f}"
    return (f"{speed:,.0f} images/s, {times} times `DatasetFolder` with OpenCV / PIL and two workers",
            f"{speed:,.0f} 张/秒，是 `DatasetFolder`（OpenCV / PIL，两个进程）的 {times} 倍")


def _of(name, cell, *arguments):
    """A function from a machine's folder to the cell out of its record ``name``."""
    def find(folder):
        record = read(name, folder)
        return record and cell(record, *arguments)
    return find


def _run(name):
    """The same of a training, whose record names its machine; only trainings by the recipe of the first are shown."""
    return lambda folder: read(name) and _recipe(name) == _recipe("cifar10_t0") and _trained(read(name), folder)


def _recipe(name):
    """The settings on record that PConv and DWConv must have in common to be compared."""
    return {key: value for key, value in read(name)["runs"][0]["config"].items() if key not in ("mixer", "seed")}


ROWS = [  # English, Chinese, folder -> cell
    ("CIFAR-10 (*), T0 from scratch, recipe `cpu`, PConv", "CIFAR-10（*），T0 从头训练，配方 `cpu`，PConv",
     _run("cifar10_t0")),
    ("the same with DWConv", "同上，DWConv", _run("cifar10_t0_dwconv")),
    ("recipe `cpu-long`, PConv; this network is shipped", "配方 `cpu-long`，PConv；随库附带的即此网络",
     lambda folder: _trained(read(SHIPPED), folder)),
    ("photographs of clothes, ten classes, 128 pixels, recipe `finetune` from the shipped weights",
     "衣物照片，十类，128 像素，从随库附带的权重开始，配方 `finetune`", _of("photographs", _photographs)),
    ("a training step of T0, 32 x 32, patch_size 2, batch 256, fp32 / bf16",
     "T0 的一个训练步，32 x 32，patch_size 2，批大小 256，fp32 / bf16", _of("train_step", _step, "32/2")),
    ("the same at patch_size 1", "同上，patch_size 1", _of("train_step", _step, "32/1")),
    ("the same at 224 x 224, patch_size 4, batch 32", "同上，224 x 224，patch_size 4，批大小 32",
     _of("train_step", _step, "224/4")),
    ("T0 at 224 x 224 in Paddle's dynamic graph: one image / batch 32 / batch 32 from images to classes",
     "T0，224 x 224，飞桨动态图：单张 / 批大小 32 / 批大小 32 且含预处理", _of("benchmark_t0_224", _eager)),
    *((f"{name} through `Predictor`, {precision}, one image / batch 32, against the fastest way without this library",
       f"{name}，用 `Predictor`，{precision}，单张 / 批大小 32，与不用本库时最快的做法相比",
       _of("inference", _engines, model, precision))
      for name, model in (("T0", "fasternet_t0"), ("T2", "fasternet_t2")) for precision in ("fp32", "bf16", "int8")),
    ("change in accuracy by bf16 / int8 (OpenVINO), shipped network",
     "bf16 / int8（OpenVINO）带来的准确率变化，随库附带的网络", _of("inference", _changed)),
    ("PaddleX on the exported folder", "PaddleX 打开导出的文件夹", _of("paddlex", _paddlex)),
    ("LIME, T0 at 224 x 224", "LIME，T0，224 x 224", _of("explain", _lime)),
    ("T0 over MobileViT-XXS (the paper, on its CPU: 3.3 times)",
     "T0 与 MobileViT-XXS 的速度之比（论文的 CPU 上 3.3 倍）",
     _of("operators", _claims, "fasternet_t0")),
    ("L over Swin-B (the paper, on its CPU: 1.59 times)", "L 与 Swin-B 的速度之比（论文的 CPU 上 1.59 倍）",
     _of("operators", _claims, "fasternet_l")),
    ("loader, 32 pixels, flip, shift, normalise", "数据加载，32 像素，翻转、平移、归一化",
     _of("data_pipeline", _loader, False)),
    ("loader, 224 pixels, the 2023 notebook's transforms", "数据加载，224 像素，2023 年的 Notebook 的数据增强",
     _of("data_pipeline", _loader, True)),
    ("loader, 224 pixels, random crops of photographs from JPEG files",
     "数据加载，224 像素，从 JPEG 文件中随机裁剪", _of("folder_loader", _folder_loader)),
]


def _on_gpu(config):
    """(mean accuracy in per cent, number of seeds) of whole trainings by gpu_recipes.py, one view of each image."""
    record = read("gpu_recipes")
    found = [run["curve"][-1]["accuracy"] for run in record["runs"] if run["config"] == config
             and run["mixer"] == "pconv" and run["epochs"] == record["configs"][config]["epochs"]]
    return f"{100 * statistics.mean(found):.2f} %", len(found)


def _shipped_inference():
    for folder in MACHINES:
        record = read("inference", folder)
        if _is_shipped(record):
            return record
    raise SystemExit("no machine's inference.json has the accuracy of the network that is shipped now; run "
                     "benchmarks/inference.py --accuracy first")


def tables():
    """{file: text between the marks}, in both languages."""
    images = f"{read('cifar10_t0')['runs'][0]['data']['val_images']:,}"
    archive = read("archive")
    theirs, official = archive["mean"], f"{100 * archive['official']['accuracy']:.2f} %"
    here, mirrored = (f"{100 * theirs[views]:.2f} %" for views in (archive["official"]["views"], "mirror"))
    alone = f"{100 * _shipped_inference()['accuracy']['eager_top1']:.2f} %"
    (then, seeds), (unmixed, more) = map(_on_gpu, ("notebook", "notebook_without_mixup"))
    before = ("Each on two cores and two threads, contenders in turn within one run; ratios are those of the medians "
              "(LIME and the loader: medians of each turn's ratio); records in `work/results/` and, of the second "
              "machine's speeds, `work/results/zen4/`:",
              "均为两核、两个线程，在同一次运行中轮流测量；倍数为中位数之比（LIME 与数据加载为各轮之比的中位数）；"
              "记录见 `work/results/`，第二台机器的速度见 `work/results/zen4/`：")
    after = ("(*) The archive is not the official one: its images went through JPEG once, and it has "
             f"{images} test images instead of 10,000, which makes it the harder one: "
             f"[airbench94]({AIRBENCH}) has {official} on the official one by its author's record and {here} here, "
             f"both with six views of an image, and {mirrored} here with the mirror image alone "
             f"({len(archive['runs'])} runs, `work/results/archive.json`). The 2023 notebook's settings (recipe "
             f"`notebook`: 224 x 224, 100 epochs, PConv), in PyTorch on an H100, have {then} here with one view and "
             f"{unmixed} without their mixup ({seeds} / {more} seeds, `work/results/gpu_recipes.json`). The accuracy "
             "is the last epoch's, by the mean over each image and its mirror image (`evaluate(..., flips=True)`); "
             f"the shipped network's without: {alone}. "
             "Intel's int8 is of an earlier int8 file, and its T2 in bf16 at batch 32 was disturbed by other work; "
             "Zen 4's T0 in int8 with one image had a slow instance of OpenVINO (`work/README.md`).",
             f"（*）所用压缩包不是官方的：图像经过一次 JPEG 压缩，测试图像为 {images} 张而不是 10,000 张，因而更难："
             f"[airbench94]({AIRBENCH}) 按其作者的记录在官方压缩包上为 {official}，在此处同样取六个视图为 {here}，"
             f"只取镜像为 {mirrored}（{len(archive['runs'])} 次训练，`work/results/archive.json`）。"
             "2023 年的 Notebook 的设置（配方 `notebook`：224 x 224，100 轮，PConv）用 PyTorch 在 H100 上训练，"
             f"此处单个视图为 {then}，去掉其中的 mixup 为 {unmixed}"
             f"（随机种子数：{seeds} 与 {more}，`work/results/gpu_recipes.json`）。"
             "准确率取自最后一轮，为每张图像与其镜像图的平均（`evaluate(..., flips=True)`）；"
             f"随库附带的网络不取镜像时为 {alone}。Intel 一列的 int8 取自较早的 int8 文件，"
             "T2 的 bf16 批大小 32 一项受其他任务干扰；Zen 4 一列 T0 的 int8 单张一项，OpenVINO 的那个实例偏慢"
             "（见 `work/README.md`）。")
    found = {}
    for language, name in enumerate(("README.md", "README.zh-CN.md")):
        lines = ["| | " + " | ".join(MACHINES.values()) + " |", "|---" * (1 + len(MACHINES)) + "|"]
        for *label, cell in ROWS:
            cells = [cell(folder) for folder in MACHINES]
            if any(cells):
                lines.append(f"| {label[language]} | " + " | ".join(pair[language] if pair else "–" for pair in cells)
                             + " |")
        found[name] = "\n".join([before[language], "", *lines, "", after[language], ""])
    return found


def between(text):
    return text.split(START)[1].split(END)[0]


def draw_trainings():
    names = {"PConv": "cifar10_t0", "DWConv": "cifar10_t0_dwconv"}
    if _recipe(names["PConv"]) != _recipe(names["DWConv"]):
        return
    runs = {}  # by machine too: seconds of one are not those of another
    for label, name in names.items():
        for run in read(name)["runs"]:
            machine = MACHINES[_folder(run)].split(",")[0]
            runs.setdefault(f"{label}, {machine}", []).append(History(epochs=run["epochs"]))
    plots.save_figure(ROOT / "work" / "results" / "cifar10_time.png", plots.plot_accuracy, dict(sorted(runs.items())))


def main():
    draw_trainings()
    for name, table in tables().items():
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(START + between(text) + END, START + table + END), encoding="utf-8")


if __name__ == "__main__":
    main()
