package edgewright.agent

import java.io.BufferedReader
import java.io.File
import java.io.OutputStream

private const val PROTOCOL = 3L
private const val REFERENCE_STEPS = 2_000_000

/** The worker protocol of edgewright/runtimes/wire.py for one engine. Paths are relative to `root`, and stay in it. */
class Worker(private val engine: Engine, private val sensors: Sensors, private val root: File, private val output: OutputStream) {
    private var session: Session? = null

    fun greet(pid: Long, startedNanos: Long) {
        val took = (System.nanoTime() - startedNanos) / 1e3
        send(mapOf("type" to "hello", "protocol" to PROTOCOL, "runtime" to engine.name, "version" to engine.version, "pid" to pid, "python" to "", "import_us" to took, "memory" to memory()))
    }

    fun refuse(why: String) = send(mapOf("type" to "refused", "kind" to "missing", "why" to why, "trace" to ""))

    /** Answer requests until `close`, or the end of the input. */
    fun serve(input: BufferedReader) {
        while (true) {
            val line = input.readLine() ?: return
            val request = @Suppress("UNCHECKED_CAST") (Json.read(line) as Message)
            val command = request.inner("command")
            send(mapOf("id" to request.number("id"), "result" to answer(command)))
            if (command.text("type") == "close") return
        }
    }

    private fun send(message: Any?) {
        output.write((Json.write(message) + "\n").toByteArray())
        output.flush()
    }

    private fun answer(command: Message): Message = try {
        act(command)
    } catch (error: Refusal) {
        fail(error.kind, error, error.hint)
    } catch (error: OutOfMemoryError) {
        fail("memory", error)
    } catch (error: Exception) {
        fail("internal", error)
    }

    private fun fail(kind: String, error: Throwable, hint: String = ""): Message =
        mapOf("type" to "refused", "kind" to kind, "why" to (error.message ?: error.javaClass.name), "trace" to error.stackTraceToString(), "hint" to hint)

    private fun act(command: Message): Message = when (val type = command.text("type")) {
        "open" -> open(command)
        "run" -> time(command)
        "calibrate" -> calibrate(command.number("runs").toInt())
        "invoke" -> invoke(command)
        "memory" -> done()
        "close" -> { session?.close(); session = null; done() }
        "profile" -> throw Refusal("internal", "the agent reports no times of operators")
        else -> throw Refusal("model", "an agent does not support the command $type")
    }

    private fun done(): Message = mapOf("type" to "done", "memory" to memory())

    private fun memory(): Message = sensors.memory().let { (now, peak) -> mapOf("rss" to now, "peak" to peak) }

    private fun loaded(): Session = session ?: throw Refusal("model", "no model is open")

    private fun open(command: Message): Message {
        val asked = command.inner("session")
        val shapes = asked.inner("shapes").mapValues { (_, sizes) -> (sizes as List<*>).map { (it as Number).toLong() } }
        val options = asked.inner("options").mapValues { it.value.toString() }
        val request = ModelRequest(resolve(root, asked.text("model")), asked.number("threads").toInt(), options, shapes)
        val feeds = Tensors.read(resolve(root, command.text("feeds")))
        val began = System.nanoTime()
        val opened = engine.open(request)
        val took = (System.nanoTime() - began) / 1e3
        session = opened
        bind(opened, feeds)
        val signature = mapOf("inputs" to opened.inputs.map(::describe), "outputs" to opened.outputs.map(::describe))
        return mapOf("type" to "opened", "load_us" to took, "memory" to memory(), "signature" to signature, "notes" to opened.notes)
    }

    private fun describe(one: TensorInfo): Message = mapOf("name" to one.name, "dtype" to one.dtype, "shape" to one.shape)

    private fun bind(session: Session, feeds: Map<String, Tensor>) {
        val wanted = session.inputs.associateBy { it.name }
        if (wanted.keys != feeds.keys) throw Refusal("input", "the model's inputs are ${wanted.keys}, but the values given are for ${feeds.keys}")
        for ((name, one) in feeds) {
            val info = wanted.getValue(name)
            if (info.dtype != one.dtype) throw Refusal("input", "input '$name' is ${info.dtype}, but the value given is ${one.dtype}")
            val sizes = one.shape.toList()
            val fits = info.shape.size == sizes.size && info.shape.indices.all { info.shape[it] !is Long || info.shape[it] == sizes[it] }
            if (!fits) throw Refusal("input", "input '$name' has shape ${info.shape}, but the value given has shape $sizes")
        }
        session.bind(feeds)
    }

    private fun time(command: Message): Message {
        val own = loaded()
        repeat(command.number("settle").toInt()) { own.run() }
        val seconds = (command["seconds"] as Number).toDouble()
        val interval = command.number("interval_ns")
        return Samples(command.number("runs").toInt(), seconds, interval, sensors::cpuNanos).measure(own::run)
    }

    private fun calibrate(runs: Int): Message {
        val nothing = Samples(runs, 1.0, 0, sensors::cpuNanos).also { it.measure {} }
        val steps = LongArray(200) { System.nanoTime() }
        val step = (1 until steps.size).map { steps[it] - steps[it - 1] }.filter { it > 0 }.minOrNull() ?: 1L
        val reference = (1..5).minOf { val began = System.nanoTime(); arithmetic(); System.nanoTime() - began }
        return mapOf("type" to "calibration", "wall_ns" to nothing.wall.median(), "cpu_ns" to nothing.cpu.median(), "resolution_ns" to step.toDouble(), "reference_us" to reference / 1e3)
    }

    private fun arithmetic(): Int {
        var total = 0
        for (i in 0 until REFERENCE_STEPS) total = total * 31 + (i and 7)
        return total
    }

    private fun invoke(command: Message): Message {
        val own = loaded()
        val feeds = Tensors.read(resolve(root, command.text("feeds")))
        val target = resolve(root, command.text("outputs"))
        if (command["stacked"] != true) {
            bind(own, feeds)
            own.run()
            Tensors.write(target, own.fetch())
            return done()
        }
        val counts = feeds.values.map { it.shape.firstOrNull() ?: 0 }.toSet()
        val count = counts.singleOrNull()?.takeIf { it > 0 } ?: throw Refusal("input", "stacked inputs need one leading axis of the same length")
        val results = List(count.toInt()) { i -> bind(own, feeds.mapValues { entry(it.value, i) }); own.run(); own.fetch() }
        Tensors.write(target, results[0].keys.associateWith { name -> stack(name, results.map { it.getValue(name) }) })
        return done()
    }

    private fun entry(one: Tensor, i: Int): Tensor {
        val size = one.data.capacity() / one.shape[0].toInt()
        val part = one.data.duplicate().order(one.data.order())
        part.position(i * size).limit((i + 1) * size)
        return Tensor(one.dtype, one.shape.copyOfRange(1, one.shape.size), part.slice().order(one.data.order()))
    }

    private fun stack(name: String, parts: List<Tensor>): Tensor {
        val first = parts[0]
        if (parts.any { !it.shape.contentEquals(first.shape) }) throw Refusal("internal", "output '$name' has different shapes for two inputs", "one input can be used: compile --samples 1, or invoke")
        val data = java.nio.ByteBuffer.allocate(parts.sumOf { it.data.capacity() }).order(first.data.order())
        for (one in parts) data.put(one.data.duplicate().also { it.rewind() })
        return Tensor(first.dtype, longArrayOf(parts.size.toLong()) + first.shape, data)
    }
}

/** Return a file in the folder; a path that leaves it is refused. */
fun resolve(root: File, path: String): File {
    val file = File(root, path).canonicalFile
    if (path.isEmpty() || !file.toPath().startsWith(root.canonicalFile.toPath())) throw Refusal("internal", "the path $path is not in the agent's folder")
    return file
}

/** Wall and process CPU times of up to `most` calls within `seconds`; with an interval one call per interval. */
class Samples(private val most: Int, private val seconds: Double, private val interval: Long, private val cpuNanos: () -> Long?) {
    val wall = ArrayList<Long>()
    val cpu = ArrayList<Long>()
    private var missed = 0L

    fun measure(call: () -> Unit): Message {
        val began = System.nanoTime()
        val allowed = (seconds * 1e9).toLong()
        var frame = 0L
        while (wall.size < most && (interval == 0L || frame * interval < allowed)) {
            val due = began + frame * interval
            if (interval > 0) (due - System.nanoTime()).let { if (it > 0) Thread.sleep(it / 1_000_000, (it % 1_000_000).toInt()) }
            val ended = sample(call)
            if (interval == 0L && ended - began >= allowed) break
            val late = if (interval > 0) maxOf(0, (ended - due - 1) / interval) else 0
            missed += late
            frame += 1 + late
        }
        return mapOf("type" to "times", "wall_ns" to wall, "cpu_ns" to cpu, "missed" to missed)
    }

    private fun sample(call: () -> Unit): Long {
        val before = cpuNanos()
        val start = System.nanoTime()
        call()
        val end = System.nanoTime()
        wall.add(end - start)
        if (before != null) cpuNanos()?.let { cpu.add(maxOf(0, it - before)) }
        return end
    }
}

private fun List<Long>.median(): Double {
    if (isEmpty()) return 0.0
    val ordered = sorted()
    val half = size / 2
    return if (size % 2 == 1) ordered[half].toDouble() else (ordered[half - 1] + ordered[half]) / 2.0
}
