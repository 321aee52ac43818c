package edgewright.agent.jvm

import ai.onnxruntime.NodeInfo
import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo as OrtTensorInfo
import edgewright.agent.Engine
import edgewright.agent.ModelRequest
import edgewright.agent.Refusal
import edgewright.agent.Session
import edgewright.agent.Tensor
import edgewright.agent.TensorInfo
import java.nio.ByteBuffer
import java.nio.ByteOrder

private val TYPES = mapOf(
    "float32" to OnnxJavaType.FLOAT, "float64" to OnnxJavaType.DOUBLE, "float16" to OnnxJavaType.FLOAT16, "int8" to OnnxJavaType.INT8,
    "uint8" to OnnxJavaType.UINT8, "int16" to OnnxJavaType.INT16, "int32" to OnnxJavaType.INT32, "int64" to OnnxJavaType.INT64,
    "bool" to OnnxJavaType.BOOL,
)
private val LEVELS = mapOf(
    "all" to OrtSession.SessionOptions.OptLevel.ALL_OPT, "extended" to OrtSession.SessionOptions.OptLevel.EXTENDED_OPT,
    "basic" to OrtSession.SessionOptions.OptLevel.BASIC_OPT, "disable" to OrtSession.SessionOptions.OptLevel.NO_OPT,
)
private val OPTIONS = setOf("optimization", "provider", "execution", "inter-op-threads", "spinning", "arena")

/** ONNX Runtime by its Java binding, on the processor. */
object OrtEngine : Engine {
    override val name = "onnxruntime"
    override val version: String get() = OrtEnvironment.getEnvironment().version
    override val units = listOf("onnxruntime.provider=CPU")

    override fun open(request: ModelRequest): Session {
        val options = request.options
        (options.keys - OPTIONS).firstOrNull()?.let { throw Refusal("model", "the option $it does not exist in the agent", "omit -p $it") }
        val provider = options["provider"] ?: "CPU"
        if (provider.uppercase().removeSuffix("EXECUTIONPROVIDER") != "CPU") throw Refusal("missing", "the agent was built without the execution provider $provider; it has CPU")
        try {
            return makeOptions(request).use { OrtRun(OrtEnvironment.getEnvironment().createSession(request.model.path, it), request.shapes) }
        } catch (error: OrtException) {
            throw Refusal("model", error.message ?: "ONNX Runtime gave no reason")
        }
    }

    private fun makeOptions(request: ModelRequest) = OrtSession.SessionOptions().also {
        it.setIntraOpNumThreads(request.threads)
        it.setInterOpNumThreads(request.options["inter-op-threads"]?.toIntOrNull() ?: 1)
        it.setOptimizationLevel(LEVELS.getValue(request.options["optimization"] ?: "all"))
        it.setExecutionMode(if (request.options["execution"] == "parallel") OrtSession.SessionOptions.ExecutionMode.PARALLEL else OrtSession.SessionOptions.ExecutionMode.SEQUENTIAL)
        it.setCPUArenaAllocator(request.options["arena"] != "off")
        it.addConfigEntry("session.intra_op.allow_spinning", if (request.options["spinning"] == "off") "0" else "1")
    }
}

private class OrtRun(private val session: OrtSession, private val shapes: Map<String, List<Long>>) : Session {
    private var feeds: Map<String, OnnxTensor> = emptyMap()
    private var result: OrtSession.Result? = null
    override val inputs = session.inputInfo.values.map(::describe)
    override val outputs = session.outputInfo.values.map(::describe)
    override val notes = emptyList<String>()

    private fun describe(node: NodeInfo): TensorInfo {
        val info = node.info as? OrtTensorInfo ?: throw Refusal("model", "'${node.name}' is not a tensor")
        val dtype = TYPES.entries.firstOrNull { it.value == info.type }?.key ?: throw Refusal("model", "'${node.name}' has the type ${info.type}, which the agent does not support")
        val sizes = info.shape.mapIndexed { i, size -> if (size >= 0) size else info.dimensionNames[i].ifEmpty { "axis $i" } }
        return TensorInfo(node.name, dtype, shapes[node.name] ?: sizes)
    }

    override fun bind(feeds: Map<String, Tensor>) {
        this.feeds.values.forEach { it.close() }
        this.feeds = feeds.mapValues { (_, one) ->
            val direct = ByteBuffer.allocateDirect(one.data.capacity()).order(ByteOrder.nativeOrder())
            direct.put(one.data.duplicate().also { it.rewind() }).rewind()
            OnnxTensor.createTensor(OrtEnvironment.getEnvironment(), direct, one.shape, TYPES.getValue(one.dtype))
        }
    }

    override fun run() {
        result?.close()
        try {
            result = session.run(feeds)
        } catch (error: OrtException) {
            throw Refusal("model", error.message ?: "ONNX Runtime gave no reason")
        }
    }

    override fun fetch(): Map<String, Tensor> = result!!.associate { (name, value) ->
        val tensor = value as? OnnxTensor ?: throw Refusal("model", "the output '$name' is not a tensor")
        val dtype = TYPES.entries.first { it.value == tensor.info.type }.key
        name to Tensor(dtype, tensor.info.shape, tensor.byteBuffer.order(ByteOrder.LITTLE_ENDIAN))
    }

    override fun close() {
        result?.close()
        feeds.values.forEach { it.close() }
        session.close()
    }
}
