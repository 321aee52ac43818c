package edgewright.agent

import java.io.DataInputStream
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.io.OutputStream
import java.net.ServerSocket
import java.net.Socket
import java.security.MessageDigest
import java.security.SecureRandom
import javax.crypto.Mac
import javax.crypto.spec.SecretKeySpec
import kotlin.concurrent.thread

private const val PROTOCOL = 1
private const val LONGEST_LINE = 1 shl 24
private const val MOST_FAILURES = 5
private const val LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"

/** A process that serves one worker, whose engine has a process of its own. */
interface WorkerProcess : AutoCloseable {
    val input: OutputStream
    val output: InputStream

    /** Wait for its end, and return its exit code and the end of its log. */
    fun end(): Pair<Int, String>
}

/** What the shell around the agent gives: `fingerprint` is the certificate's sha256 in hexadecimal, empty without TLS. */
class Shell(
    val root: File,
    val engines: List<Engine>,
    val sensors: Sensors,
    val fingerprint: String,
    val start: (String) -> WorkerProcess,
    val show: (String) -> Unit,
)

/** The agent: pairing, files, and workers, for each connection in a thread. The protocol is in devices/agent/messages.py. */
class Agent(private val shell: Shell, private val server: ServerSocket, firstCode: String?) {
    private val random = SecureRandom()
    private val tokenFile = File(shell.root, "token")
    private var code = firstCode?.trim()?.uppercase() ?: makeCode()
    private val isOpen = firstCode == ""
    private var failures = 0

    init {
        File(shell.root, "work").deleteRecursively()
        shell.root.mkdirs()
        showCode()
    }

    private fun makeCode() = (1..8).map { LETTERS[random.nextInt(LETTERS.length)] }.joinToString("")

    private fun makeHex(bytes: Int) = ByteArray(bytes).also(random::nextBytes).hex()

    private fun showCode() = shell.show(if (isOpen) "No code is needed" else "Code: $code")

    /** Accept connections until the server is closed. */
    fun serve() {
        while (!server.isClosed) {
            val socket = try { server.accept() } catch (error: IOException) { if (server.isClosed) return else throw error }
            thread(isDaemon = true) {
                try { socket.use(::handle) } catch (error: IOException) { shell.show("A connection ended: ${error.message}") } catch (error: Json.Malformed) { shell.show("A connection sent no message: ${error.message}") }
            }
        }
    }

    private fun handle(socket: Socket) {
        socket.tcpNoDelay = true
        socket.keepAlive = true
        val link = Link(socket.getInputStream(), socket.getOutputStream())
        val nonce = makeHex(32)
        link.send(mapOf("type" to "challenge", "agent" to PROTOCOL, "nonce" to nonce))
        val enter = link.read() ?: return
        val action = enter.text("action")
        val secret = synchronized(this) { if (action == "pair") code else readToken() }
        if (secret == null || !isEqual(prove(secret, nonce, action), enter.text("proof"))) return refuse(link, action)
        val proof = mapOf("type" to "welcome", "proof" to prove(secret, enter.text("nonce"), "welcome"))
        when (action) {
            "pair" -> link.send(proof + ("token" to pair()))
            "control" -> control(link, proof)
            "worker" -> work(link, proof, enter.text("runtime"))
        }
    }

    private fun readToken(): String? = if (tokenFile.isFile) tokenFile.readText() else null

    @Synchronized
    private fun pair(): String {
        val token = makeHex(32)
        tokenFile.writeText(token)
        failures = 0
        if (!isOpen) code = makeCode()
        shell.show("Paired")
        showCode()
        return token
    }

    @Synchronized
    private fun refuse(link: Link, action: String) {
        if (action == "pair" && !isOpen && ++failures >= MOST_FAILURES) { code = makeCode(); failures = 0; showCode() }
        val why = if (action == "pair") "the code is wrong or was used; --code takes the one that the agent shows" else "it is not paired with this computer"
        link.send(mapOf("type" to "failed", "state" to "unauthorized", "why" to why))
    }

    private fun prove(secret: String, nonce: String, about: String): String {
        val mac = Mac.getInstance("HmacSHA256")
        mac.init(SecretKeySpec(if (secret.isEmpty()) ByteArray(1) else secret.toByteArray(), "HmacSHA256")) // Java has no empty key; it is one of zeros
        return mac.doFinal("$about $nonce ${shell.fingerprint}".toByteArray()).hex()
    }

    private fun isEqual(one: String, other: String) = MessageDigest.isEqual(one.toByteArray(), other.toByteArray())

    private fun control(link: Link, proof: Message) {
        val work = "work/${makeHex(8)}"
        File(shell.root, work).mkdirs()
        link.send(proof + ("work" to work))
        try {
            while (true) {
                val request = link.read() ?: return
                try { act(request, link) } catch (error: Refusal) { link.send(mapOf("type" to "failed", "state" to "ready", "why" to error.message)) }
            }
        } finally {
            File(shell.root, work).deleteRecursively()
            File(shell.root, "$work-sent").deleteRecursively()
        }
    }

    private fun act(request: Message, link: Link) {
        val path = request.text("path")
        when (request.text("type")) {
            "status" -> link.send(mapOf("type" to "status", "facts" to facts(), "state" to shell.sensors.state()))
            "find" -> link.send(find(resolve(shell.root, path)))
            "put" -> put(resolve(shell.root, path), request.number("bytes"), link)
            "get" -> get(resolve(shell.root, path), link)
            "forget" -> { shell.root.listFiles()?.filter { it.name != "id" }?.forEach { it.deleteRecursively() }; link.send(mapOf("type" to "done")) }
            else -> throw Refusal("internal", "an agent does not know ${request.text("type")}")
        }
    }

    private fun facts(): Message = shell.sensors.facts() + mapOf("id" to readId(), "runtimes" to shell.engines.associate { it.name to it.version }, "units" to shell.engines.flatMap { it.units })

    private fun readId(): String = File(shell.root, "id").let { if (!it.isFile) it.writeText(makeHex(16)); it.readText() }

    private fun find(file: File): Message {
        val files = file.walkTopDown().filter { it.isFile && file.isDirectory || it == file && file.isFile }
        val named = files.map { mapOf("name" to it.toRelativeString(file), "bytes" to it.length()) }.toList()
        val kind = if (file.isDirectory) "folder" else if (file.isFile) "file" else "none"
        return mapOf("type" to "found", "kind" to kind, "files" to named)
    }

    private fun put(file: File, count: Long, link: Link) {
        file.parentFile.mkdirs()
        val part = File.createTempFile("part", "", file.parentFile)
        try {
            part.outputStream().use { link.copyTo(it, count) }
            if (!part.renameTo(file)) throw Refusal("room", "${file.name} cannot be written")
        } finally {
            part.delete()
        }
        link.send(mapOf("type" to "done"))
    }

    private fun get(file: File, link: Link) {
        if (!file.isFile) throw Refusal("internal", "there is no file ${file.name}")
        link.send(mapOf("type" to "content", "bytes" to file.length()))
        file.inputStream().use { it.copyTo(link.output) }
        link.output.flush()
    }

    private fun work(link: Link, proof: Message, runtime: String) {
        if (shell.engines.none { it.name == runtime }) return link.send(mapOf("type" to "failed", "state" to "ready", "why" to "the agent has no $runtime"))
        shell.start(runtime).use { worker ->
            link.send(proof)
            shell.show("A worker of $runtime runs")
            thread(isDaemon = true) { relayAnswers(worker, link) }
            try { link.input.relay(worker.input) } catch (error: IOException) { shell.show("A worker ended: ${error.message}") }
        }
    }

    private fun relayAnswers(worker: WorkerProcess, link: Link) {
        try {
            worker.output.relay(link.output)
            val (code, tail) = worker.end()
            link.send(mapOf("type" to "ended", "code" to code, "tail" to tail.takeLast(4000)))
        } catch (error: IOException) {
            shell.show("A worker ended: ${error.message}")
        }
    }
}

private fun InputStream.relay(to: OutputStream) {
    val buffer = ByteArray(1 shl 16)
    while (true) {
        val count = read(buffer)
        if (count < 0) return
        to.write(buffer, 0, count)
        to.flush()
    }
}

private fun ByteArray.hex() = joinToString("") { "%02x".format(it) }

/** Messages, one per line, and the bytes between them. */
class Link(val input: InputStream, val output: OutputStream) {
    fun send(message: Any?) {
        output.write((Json.write(message) + "\n").toByteArray())
        output.flush()
    }

    /** Return the next message; null at the end. */
    fun read(): Message? {
        val line = java.io.ByteArrayOutputStream()
        while (true) {
            val next = input.read()
            if (next < 0) return null
            if (next == '\n'.code) break
            if (line.size() >= LONGEST_LINE) throw Json.Malformed("it has no end")
            line.write(next)
        }
        return mapOf("message" to Json.read(line.toString("UTF-8"))).inner("message")
    }

    fun copyTo(to: OutputStream, count: Long) {
        val data = DataInputStream(input)
        val buffer = ByteArray(1 shl 16)
        var left = count
        while (left > 0) {
            val size = minOf(left, buffer.size.toLong()).toInt()
            data.readFully(buffer, 0, size)
            to.write(buffer, 0, size)
            left -= size
        }
    }
}
