package edgewright.agent.jvm

import edgewright.agent.Agent
import edgewright.agent.Engine
import edgewright.agent.Sensors
import edgewright.agent.Shell
import edgewright.agent.Worker
import edgewright.agent.WorkerProcess
import com.sun.management.OperatingSystemMXBean
import java.io.File
import java.io.InputStream
import java.io.OutputStream
import java.lang.management.ManagementFactory
import java.net.InetAddress
import java.net.ServerSocket
import kotlin.system.exitProcess

private val OS = ManagementFactory.getOperatingSystemMXBean() as OperatingSystemMXBean

/** What a JVM knows; it has no sensors of battery, temperature and power. */
private object JvmSensors : Sensors {
    override fun facts() = mapOf(
        "app" to "1", "model" to "", "soc" to "", "machine" to OS.arch, "system" to OS.name, "os" to "${OS.name} ${OS.version}",
        "build" to "Java ${System.getProperty("java.version")}", "kernel" to OS.version, "gpu" to "", "cores" to OS.availableProcessors,
        "memory" to OS.totalMemorySize,
    )

    override fun state() = mapOf(
        "battery" to null, "charging" to null, "saver" to null, "visible" to null, "thermal_status" to null, "thermal_headroom" to null,
        "temperature_c" to null, "frequency_khz" to null, "power_uw" to null, "memory_available_bytes" to OS.freeMemorySize,
        "source" to "a JVM has no sensors",
    )

    override fun cpuNanos(): Long = OS.processCpuTime

    override fun memory(): Pair<Long?, Long?> {
        val lines = File("/proc/self/status").takeIf { it.isFile }?.readLines() ?: return null to null
        val read = { name: String -> lines.firstOrNull { it.startsWith("$name:") }?.filter { it.isDigit() }?.toLongOrNull()?.times(1024) }
        return read("VmRSS") to read("VmHWM")
    }
}

private class ChildProcess(runtime: String, root: File) : WorkerProcess {
    private val log = File.createTempFile("worker", ".log")
    private val process: Process

    init {
        val java = File(System.getProperty("java.home"), "bin/java").path
        val properties = System.getProperties().entries.filter { it.key.toString().startsWith("onnxruntime.") }.map { "-D${it.key}=${it.value}" }
        val command = listOf(java, "-cp", System.getProperty("java.class.path")) + properties + listOf("edgewright.agent.jvm.MainKt", "worker", runtime, root.path)
        process = ProcessBuilder(command).redirectError(log).start()
    }

    override val input: OutputStream get() = process.outputStream
    override val output: InputStream get() = process.inputStream

    override fun end(): Pair<Int, String> {
        val code = process.waitFor()
        return (if (code > 128) 128 - code else code) to (if (log.isFile) log.readText() else "")
    }

    override fun close() {
        process.destroyForcibly().waitFor()
        log.delete()
    }
}

fun main(arguments: Array<String>) {
    val started = System.nanoTime()
    val engines = listOf<Engine>(OrtEngine)
    when (arguments.firstOrNull()) {
        "worker" -> work(engines.first { it.name == arguments[1] }, File(arguments[2]), started)
        "agent" -> serve(engines, File(arguments[1]), arguments.getOrElse(2) { "0" }.toInt(), arguments.getOrNull(3))
        else -> { System.err.println("usage: agent FOLDER [PORT [CODE]], where an empty CODE lets in who can connect"); exitProcess(2) }
    }
}

private fun work(engine: Engine, root: File, started: Long) {
    val output = System.out
    System.setOut(System.err) // what a library prints must not be among the messages
    val worker = Worker(engine, JvmSensors, root, output)
    worker.greet(ProcessHandle.current().pid(), started)
    worker.serve(System.`in`.bufferedReader())
}

private fun serve(engines: List<Engine>, root: File, port: Int, code: String?) {
    val server = ServerSocket(port, 50, InetAddress.getByName("127.0.0.1"))
    println("agent://127.0.0.1:${server.localPort}")
    Agent(Shell(root, engines, JvmSensors, "", { ChildProcess(it, root) }, ::println), server, code).serve()
}
