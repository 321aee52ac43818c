"""The sections of options in help texts, and examples of each command."""

SECTIONS = {
    "Input": (
        "task data eval_data val samples held_out leave_out indices inputs shape fix seed shapes weights teacher "
        "teacher_weights student student_weights public replay apply baseline plan allow_code"
    ),
    "Pruning": (
        "method importance target_speedup target_bytes target_macs sparsity scope pattern multiple rounds round_epochs"
    ),
    "Training": (
        "qat epochs batch lr schedule warmup optimizer momentum weight_decay label_smoothing clip train_precision "
        "patience checkpoint_s train_threads control seeds rank replay_ratio replay_weight"
    ),
    "Distillation": "distill temperature alpha views transfer transfer_weight",
    "Measurement": (
        "measure on threads cores affinity sustain rate cool_below phases policy scenario "
        "option runs seconds processes interleave warmup_seconds timeout layers layer_runs "
        "power_w"
    ),
    "Goals": "max_drop force goal undecided write fail_on_fallback threshold",
    "Output": "output report html junit summary tag dry_run json",
}
SECTION_OF = {key: section for section, keys in SECTIONS.items() for key in keys.split()}
MIN_OPTIONS = 13  # of a command whose options are in sections

EXAMPLES = {
    "edgewright": ("edgewright demo", "edgewright init model.onnx", "edgewright compile model.onnx"),
    "init": ("edgewright init model.onnx", "edgewright init model.tflite --force"),
    "analyze": ("edgewright analyze model.onnx", "edgewright analyze model.onnx --runtime litert,ncnn --layers"),
    "compile": (
        "edgewright compile model.onnx",
        "edgewright compile model.onnx --runtime litert --precision fp16 --shape x=1,3,224,224",
        "edgewright compile net.py:build --weights net.pt --task task.toml",
    ),
    "quantize": (
        "edgewright quantize model.onnx --task task.toml --data images.zip --runtime litert",
        "edgewright quantize model.onnx --data images.zip --precision auto --max-drop 0.5 --html report.html",
        "edgewright quantize net.py:build --weights net.pt --qat --data train.zip --eval-data val.zip",
    ),
    "prune": (
        "edgewright prune net.py:build --weights net.pt --data train.zip --val val.zip --target-speedup 1.5",
        "edgewright prune net.py:build --weights net.pt --data train.zip --val val.zip --target-macs 2x --dry-run",
    ),
    "distill": (
        "edgewright distill --teacher net.py:large --teacher-weights large.pt --student net.py:small "
        "--data train.zip --val val.zip",
    ),
    "invoke": ("edgewright invoke model.tflite --inputs inputs.npz -o outputs.npz",),
    "task init": ("edgewright task init model.onnx -o task.toml",),
    "task show": ("edgewright task show task.toml --model model.onnx",),
    "evaluate": (
        "edgewright evaluate model.onnx artifacts --task task.toml --data images.zip",
        "edgewright evaluate model.tflite --data heldout.npz --samples 500",
    ),
    "benchmark": (
        "edgewright benchmark model.onnx model-artifacts",
        "edgewright benchmark model.onnx --runtime onnxruntime,openvino --threads 2 --json",
        "edgewright benchmark model.tflite -p delegate=none --fail-on-fallback 10",
        "edgewright benchmark app.bundle --policy none,governor --scenario busy --seconds 60",
    ),
    "llm compile": (
        "edgewright llm compile stories260K.bin --tokenizer tok512.bin --runtime llamacpp -o artifacts",
        "edgewright llm compile model.gguf --runtime llamacpp --precision fp32,w8,w4 -o artifacts",
    ),
    "llm evaluate": (
        "edgewright llm evaluate artifacts --text held.txt --kv-precision fp16,kv8,kv4 --max-kld 0.05",
        "edgewright llm evaluate artifacts --text held.txt --prompts prompts.toml --min-passed 0.9",
    ),
    "llm benchmark": ("edgewright llm benchmark artifacts --prompt 64,256 --generate 64",),
    "llm fit": ("edgewright llm fit --memory 4GB --context 2048 model.gguf",),
    "llm chat": ("edgewright llm chat artifacts/model.gguf",),
    "serve": (
        "edgewright serve model.onnx",
        "edgewright serve model.tflite --host 0.0.0.0 --token-file token --grpc-port 8501",
    ),
    "route": ("edgewright route --levels small.onnx,big.onnx --task task.toml --data fit.zip --eval-data held.zip",),
    "split": ("edgewright split model.onnx --between local,http://192.168.1.5:8500 --link 20Mbit,15ms -o parts",),
    "simulate": ("edgewright simulate tiers.toml", 'edgewright simulate tiers.toml --find edge --goal "p99<=200ms"'),
    "personalize": (
        "edgewright personalize net.py:build --weights net.pt --task task.toml --data user.zip --val user-val.zip "
        "--public public.zip -o out",
        "edgewright personalize net.py:build --weights net.pt --apply net.adapter.safetensors -o out",
    ),
    "federate simulate": (
        "edgewright federate simulate --model net.py:build --weights net.pt --task task.toml --data train.zip "
        "--val val.zip --clients 100 --rounds 20",
    ),
    "federate init": ("edgewright federate init --model net.py:build --task task.toml --clients 3 -o federation",),
    "federate server": ("edgewright federate server federation/server --val val.zip -o out",),
    "federate client": (
        "edgewright federate client federation/client-1 --server fl.example.org:9443 --data mine.zip -o out",
    ),
    "bundle": ("edgewright bundle full.tflite lite.tflite --task task.toml --data heldout.npz -o app.bundle",),
    "package check": ("edgewright package check app", "edgewright package check app-release.apk --json"),
    "package native": ("edgewright package native model.tflite --task task.toml -o app",),
    "package web": ("edgewright package web model.tflite --task task.toml -o app",),
    "package ios": ("edgewright package ios model.mlpackage --task task.toml -o app",),
    "place": ("edgewright place --profile costs.json --units cpu,gpu,npu",),
    "policy replay": ("edgewright policy replay governor trace.csv",),
    "heat": ("edgewright heat --minutes 30 --load 0.5",),
    "kernels list": ("edgewright kernels list",),
    "kernels tune": ("edgewright kernels tune conv2d --device opencl --budget 60s",),
    "kernels check": ("edgewright kernels check --seed 7",),
    "policy show": ("edgewright policy show governor",),
    "compare": ("edgewright compare 01J8 01J9", "edgewright compare old.onnx new.onnx"),
    "gate": (
        "edgewright gate model.onnx --baseline baseline.json --write",
        'edgewright gate model.onnx --baseline baseline.json --goal "latency<=1.05x, bytes<5MB" --junit gate.xml',
    ),
    "runs list": ("edgewright runs list --kind benchmark --limit 10",),
    "runs export": ("edgewright runs export 01J8 --html report.html", "edgewright runs export 01J8 folder"),
    "runs rerun": ("edgewright runs rerun 01J8",),
    "runs tag": ("edgewright runs tag 01J8 branch=main --note baseline",),
    "runtimes setup": ("edgewright runtimes setup onnx2tf", "edgewright runtimes setup web"),
    "devices add": (
        "edgewright devices add pi ssh://root@192.0.2.7 --key ~/.ssh/id_ed25519",
        "edgewright devices add phone --browser",
        "edgewright devices add pixel agent://127.0.0.1:8433 --code 7XK2M9QD",
    ),
    "devices serve": ("edgewright devices serve --host 0.0.0.0",),
    "devices setup": ("edgewright devices setup pi --runtime onnxruntime,litert",),
    "ui": ("edgewright ui",),
    "completion": ('eval "$(edgewright completion bash)"', "edgewright completion man > edgewright.1"),
}
