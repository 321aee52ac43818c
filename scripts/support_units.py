"""What the units of each runtime take, as documentation and sources have it; `support_tables.py` adds what it measures.

Lists of operators are ONNX's names, or LiteRT's own where the table's `units_in` says so.
"""

from typing import Any

QNN_PAGE = "https://github.com/onnxruntime/onnxruntime-qnn/blob/main/docs/execution_providers/QNN-ExecutionProvider.md"
QNN = """Abs Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast Ceil Clip Concat Conv ConvTranspose Cos
CumSum DepthToSpace DequantizeLinear Div Einsum Elu Equal Exp Expand Flatten Floor Gather GatherElements GatherND Gelu
Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Identity
InstanceNormalization IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization MatMul
Max MaxPool Mean Min Mod Mul Neg NonZero Not Or PRelu Pad Pow QuantizeLinear RandomNormalLike RandomUniformLike
Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu RMSNormalization Reshape Resize RoiAlign
Round RotaryEmbedding STFT ScatterElements ScatterND Sigmoid Sign Sin Slice Softmax Softplus SpaceToDepth Split Sqrt
Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Unsqueeze Upsample Where MatMulNBits QuickGelu
SimplifiedLayerNormalization FusedMatMul""".split()  # noqa: SIM905 - a list of a hundred names is read as words

GPU_FILE = (
    "tflite/delegates/gpu/common/model_builder.cc of google-ai-edge/LiteRT, NewOperationParser and IsAllAllowedTensors"
)
LITERT_GPU = """ABS ADD AVERAGE_POOL_2D BATCH_MATMUL CONCATENATION CONV_2D COS DEPTHWISE_CONV_2D DEQUANTIZE DIV ELU EXP
FULLY_CONNECTED HARD_SWISH LOGISTIC LOG LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG PACK PAD POW REDUCE_MAX
REDUCE_MIN REDUCE_PROD QUANTIZE RELU RELU6 LEAKY_RELU PRELU RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SIN
SLICE SOFTMAX SPACE_TO_DEPTH SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TRANSPOSE
TRANSPOSE_CONV""".split()  # noqa: SIM905 - a list of a hundred names is read as words

EDGE_TPU_PAGE = "https://coral.ai/docs/edgetpu/models-intro/ (supported operations; model requirements)"
EDGE_TPU = """ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED L2_NORMALIZATION
LOGISTIC LSTM UNIDIRECTIONAL_SEQUENCE_LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX
REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH
SPLIT SQUEEZE STRIDED_SLICE SUB SUM SQUARED_DIFFERENCE TANH TRANSPOSE TRANSPOSE_CONV""".split()  # noqa: SIM905 - a list of a hundred names is read as words

NCNN_FOLDER = "the files of src/layer/vulkan of Tencent/ncnn, and the layers that pnnx writes for each operator"
# Layers that have a Vulkan implementation there.
NCNN_VULKAN = """AbsVal BatchNorm BinaryOp Cast CELU Clip Concat Convolution1D Convolution3D Convolution
ConvolutionDepthWise1D ConvolutionDepthWise Crop CumulativeSum Deconvolution1D Deconvolution DeconvolutionDepthWise
DeepCopy DeformableConv2D Dequantize Dropout Eltwise ELU Erf Flatten Flip Fold GatherElements GELU Gemm GLU GridSample
GroupNorm GRU HardSigmoid HardSwish InnerProduct InstanceNorm Interp InverseSpectrogram LayerNorm LRN LSTM MatMul
MemoryData Mish Mod MultiHeadAttention Noop Normalize Packing Padding Permute PixelShuffle Pooling PReLU PriorBox
Quantize Reduction ReLU Reorg Requantize Reshape RMSNorm RotaryEmbed Scale SDPA SELU Shrink ShuffleChannel Sigmoid Slice
Softmax Softplus Spectrogram Split Swish TanH Tile UnaryOp Unfold Squeeze ExpandDims""".split()  # noqa: SIM905 - a list of a hundred names is read as words

MNN_FOLDER = "source/backend/opencl/execution and source/geometry of alibaba/MNN: neither has it"
MNN_NOT_OPENCL = "GRU NonZero Unique NonMaxSuppression OneHot QuantizeLinear DequantizeLinear RandomNormalLike".split()  # noqa: SIM905 - a list of a hundred names is read as words

OPENVINO_PAGE = "https://docs.openvino.ai/2025/documentation/compatibility-and-support/supported-devices.html"
# Operators of other domains that its ONNX reader has.
OPENVINO_FOREIGN = """Attention BiasGelu EmbedLayerNormalization FusedGemm FusedMatMul MatMulIntegerToFloat MatMulNBits
Pad QuickGelu Range SimplifiedLayerNormalization SkipLayerNormalization
SkipSimplifiedLayerNormalization""".split()  # noqa: SIM905 - read as words
OPENVINO_OPERATIONS = (
    "docs/articles_en/documentation/compatibility-and-support/supported-operations.rst of openvinotoolkit/openvino"
)
NPU_PAGE = "https://docs.openvino.ai/2023.3/openvino_docs_OV_UG_supported_plugins_NPU.html and " + OPENVINO_PAGE
ANE_PAGE = "https://developer.apple.com/forums/thread/724930; Apple publishes no list of operators"
NO_LIST = "no list of operators is published: only violations of the other rules are reported"

FLOATS = ["float32", "float16"]
UNITS: dict[str, list[dict[str, Any]]] = {
    "onnxruntime": [
        {"unit": "CPU", "backend": "MLAS", "source": "the CPU provider runs every model that the runtime loads"},
        {
            "unit": "NPU",
            "backend": "QNN HTP",
            "source": QNN_PAGE,
            "operators": QNN,
            "static": True,
            "rules": {"LpNormalization": {"refuse": [{"p": 1}]}},
            "note": "float operators run in half precision on chips that support it; QDQ models run in integers",
            "remedy": "replace it with supported operators, or leave it on the CPU",
        },
    ],
    "litert": [
        {
            "unit": "CPU",
            "backend": "XNNPACK",
            "source": "",
            # One of five inputs is taken, one of six is left; a bias that is computed is not taken.
            "rules": {"CONCATENATION": {"most_inputs": 5}, "FULLY_CONNECTED": {"constants": [2]}},
            "remedy": "it runs on the built-in kernels, which adds a partition",
        },
        {
            "unit": "CPU",
            "backend": "built-in",
            "source": "LiteRT's built-in kernels run everything that the writer writes",
        },
        {
            "unit": "GPU",
            "backend": "GPU delegate",
            "source": GPU_FILE,
            "operators": LITERT_GPU,
            "dtypes": [*FLOATS, "int8", "uint8"],
            "remedy": "it runs on the CPU, with a copy of its tensors in both directions",
        },
        {
            "unit": "NPU",
            "backend": "INT8 (Edge TPU)",
            "source": EDGE_TPU_PAGE,
            "operators": EDGE_TPU,
            "quantized": True,
            "static": True,
            "note": "the compiler maps one partition: everything after the first rejected operator runs on the CPU",
            "remedy": "move the operator to the end of the model, or leave it on the CPU",
        },
    ],
    "openvino": [
        {"unit": "CPU", "backend": "CPU plugin", "source": ""},
        {"unit": "GPU", "backend": "GPU plugin", "source": OPENVINO_PAGE, "note": NO_LIST},
        {
            "unit": "NPU",
            "backend": "NPU plugin",
            "source": NPU_PAGE,
            "static": True,
            "note": f"computes in half precision or 8-bit integers; {NO_LIST}",
        },
    ],
    "ncnn": [
        {"unit": "CPU", "backend": "CPU", "source": "ncnn's CPU layers run every artifact"},
        {
            "unit": "GPU",
            "backend": "Vulkan",
            "source": NCNN_FOLDER,
            "remedy": "it runs on the CPU, with a copy of its blobs in both directions",
        },
    ],
    "mnn": [
        {"unit": "CPU", "backend": "CPU", "source": "MNN's CPU backend runs every artifact"},
        {
            "unit": "GPU",
            "backend": "OpenCL",
            "source": MNN_FOLDER,
            "refused": dict.fromkeys(MNN_NOT_OPENCL, "the OpenCL backend does not support it"),
            "remedy": "it runs on the CPU, with a copy of its tensors in both directions",
        },
    ],
    "executorch": [
        {
            "unit": "CPU",
            "backend": "XNNPACK",
            "source": "",
            "remedy": "it runs on the portable kernels, which are slow",
        },
        {"unit": "CPU", "backend": "portable", "source": "ExecuTorch's portable kernels run every artifact"},
    ],
    "coreml": [
        {"unit": "CPU", "backend": "CPU", "source": ANE_PAGE, "note": NO_LIST},
        {"unit": "GPU", "backend": "GPU", "source": ANE_PAGE, "note": NO_LIST},
        {
            "unit": "NPU",
            "backend": "Neural Engine",
            "source": ANE_PAGE,
            "static": True,
            "note": f"computes in half precision: compile with fp16; {NO_LIST}",
        },
    ],
}
