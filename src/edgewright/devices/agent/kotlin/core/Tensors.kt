package edgewright.agent

import java.io.DataInputStream
import java.io.EOFException
import java.io.File
import java.io.InputStream
import java.io.OutputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.CRC32
import java.util.zip.ZipEntry
import java.util.zip.ZipFile
import java.util.zip.ZipOutputStream

/** An array: NumPy's name of its type, sizes, and little-endian bytes in row order. */
class Tensor(val dtype: String, val shape: LongArray, val data: ByteBuffer) {
    val count: Long get() = shape.fold(1L) { product, size -> product * size }
}

/** Files of arrays by name: `.npz`, and tensor files (`.npys`), a sequence of `.npy`s that begins with the names. */
object Tensors {
    private val CODES = mapOf(
        "float32" to "<f4", "float64" to "<f8", "float16" to "<f2", "int8" to "|i1", "uint8" to "|u1", "int16" to "<i2",
        "uint16" to "<u2", "int32" to "<i4", "uint32" to "<u4", "int64" to "<i8", "uint64" to "<u8", "bool" to "|b1",
    )
    private val NAMES = CODES.entries.associate { it.value to it.key }
    private val WIDTH = Regex("\\d+$")

    fun read(file: File): Map<String, Tensor> = if (file.name.endsWith(".npys")) readSequence(file) else readArchive(file)

    private fun readArchive(file: File): Map<String, Tensor> = ZipFile(file).use { zip ->
        zip.entries().asSequence().associate { entry -> entry.name.removeSuffix(".npy") to zip.getInputStream(entry).use(::readArray) }
    }

    private fun readSequence(file: File): Map<String, Tensor> = file.inputStream().buffered(1 shl 20).use { input ->
        readNames(input).associateWith { readArray(input) }
    }

    private fun readNames(input: InputStream): List<String> {
        val (code, shape) = readHeader(input)
        if (!code.startsWith("<U")) throw Refusal("input", "the file does not begin with names")
        val length = code.drop(2).toInt()
        val data = readBytes(input, 4L * length * shape[0]).asIntBuffer()
        return List(shape[0].toInt()) { StringBuilder().also { name -> repeat(length) { val c = data.get(); if (c != 0) name.appendCodePoint(c) } }.toString() }
    }

    private fun readArray(input: InputStream): Tensor {
        val (code, shape) = readHeader(input)
        val dtype = NAMES[code] ?: throw Refusal("input", "arrays of the type $code are not supported by the agent")
        val size = WIDTH.find(code)!!.value.toLong() * shape.fold(1L) { product, one -> product * one }
        return Tensor(dtype, shape, readBytes(input, size))
    }

    private fun readHeader(input: InputStream): Pair<String, LongArray> {
        val head = readBytes(input, 8)
        val wide = head.get(6) > 1
        val sizes = readBytes(input, if (wide) 4 else 2)
        val size = if (wide) sizes.int.toLong() else (sizes.short.toLong() and 0xffff)
        val text = String(readBytes(input, size).array(), Charsets.ISO_8859_1)
        if ("'fortran_order': True" in text) throw Refusal("input", "arrays in column order are not supported by the agent")
        val code = Regex("'descr': '([^']+)'").find(text)?.groupValues?.get(1) ?: throw Refusal("input", "an array has no type")
        val sizesText = Regex("'shape': \\(([^)]*)\\)").find(text)?.groupValues?.get(1) ?: throw Refusal("input", "an array has no shape")
        return code to Regex("\\d+").findAll(sizesText).map { it.value.toLong() }.toList().toLongArray()
    }

    private fun readBytes(input: InputStream, count: Long): ByteBuffer {
        if (count > Int.MAX_VALUE - 8) throw Refusal("memory", "an array has more than 2 GB")
        val bytes = ByteArray(count.toInt())
        try { DataInputStream(input).readFully(bytes) } catch (error: EOFException) { throw Refusal("input", "a file of arrays ends early: ${error.message}") }
        return ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN)
    }

    fun write(file: File, arrays: Map<String, Tensor>) {
        file.parentFile?.mkdirs()
        file.outputStream().buffered(1 shl 20).use { out -> if (file.name.endsWith(".npys")) writeSequence(out, arrays) else writeArchive(out, arrays) }
    }

    private fun writeSequence(out: OutputStream, arrays: Map<String, Tensor>) {
        val names = arrays.keys.map { it.codePoints().toArray() }
        val length = maxOf(1, names.maxOfOrNull { it.size } ?: 1)
        val data = ByteBuffer.allocate(4 * length * names.size).order(ByteOrder.LITTLE_ENDIAN)
        names.forEachIndexed { i, name -> name.forEachIndexed { k, c -> data.putInt(4 * (i * length + k), c) } }
        out.write(encode("<U$length", longArrayOf(names.size.toLong()), data))
        for (one in arrays.values) out.write(encode(CODES.getValue(one.dtype), one.shape, one.data))
    }

    private fun writeArchive(out: OutputStream, arrays: Map<String, Tensor>) {
        ZipOutputStream(out).use { zip ->
            for ((name, one) in arrays) {
                val bytes = encode(CODES.getValue(one.dtype), one.shape, one.data)
                val entry = ZipEntry("$name.npy")
                entry.method = ZipEntry.STORED
                entry.size = bytes.size.toLong()
                entry.crc = CRC32().also { it.update(bytes) }.value
                zip.putNextEntry(entry)
                zip.write(bytes)
            }
        }
    }

    private fun encode(code: String, shape: LongArray, data: ByteBuffer): ByteArray {
        val text = "{'descr': '$code', 'fortran_order': False, 'shape': (${shape.joinToString("") { "$it, " }.trim()}), }"
        val header = text.padEnd((text.length + 11 + 63) / 64 * 64 - 11) + "\n"
        val bytes = data.duplicate().also { it.rewind() }
        val head = byteArrayOf(0x93.toByte(), 'N'.code.toByte(), 'U'.code.toByte(), 'M'.code.toByte(), 'P'.code.toByte(), 'Y'.code.toByte(), 1, 0)
        val out = ByteBuffer.allocate(10 + header.length + bytes.remaining()).order(ByteOrder.LITTLE_ENDIAN)
        out.put(head).putShort(header.length.toShort()).put(header.toByteArray(Charsets.ISO_8859_1)).put(bytes)
        return out.array()
    }
}
