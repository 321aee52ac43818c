package edgewright.agent

import java.io.File

/** A command that fails; `kind` is one of the worker protocol. */
class Refusal(val kind: String, why: String, val hint: String = "") : Exception(why)

class TensorInfo(val name: String, val dtype: String, val shape: List<Any>)

class ModelRequest(val model: File, val threads: Int, val options: Map<String, String>, val shapes: Map<String, List<Long>>)

/** A loaded model. */
interface Session : AutoCloseable {
    val inputs: List<TensorInfo>
    val outputs: List<TensorInfo>
    val notes: List<String>

    fun bind(feeds: Map<String, Tensor>)

    /** Run once on the bound inputs: this is what is timed. */
    fun run()

    fun fetch(): Map<String, Tensor>
}

/** A runtime. `units` names what it can be asked for, such as `litert.delegate=gpu`. */
interface Engine {
    val name: String
    val version: String
    val units: List<String>

    /** Throws Refusal for an option that it does not have, or a unit that was not granted. */
    fun open(request: ModelRequest): Session
}

/** What the agent reads from the system; null where it reports nothing. */
interface Sensors {
    /** The fields of `AgentFacts` in devices/agent/messages.py, without runtimes and units. */
    fun facts(): Map<String, Any?>

    /** The fields of `AgentState`. */
    fun state(): Map<String, Any?>

    fun cpuNanos(): Long?

    /** Resident memory and its peak, in bytes. */
    fun memory(): Pair<Long?, Long?>
}
