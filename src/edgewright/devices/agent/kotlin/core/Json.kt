package edgewright.agent

/** JSON as maps, lists, strings, longs, doubles, booleans and null. */
object Json {
    class Malformed(why: String) : Exception(why)

    fun write(value: Any?): String = StringBuilder().also { put(it, value) }.toString()

    private fun put(out: StringBuilder, value: Any?) {
        when (value) {
            is Map<*, *> -> putAll(out, '{', value.entries, '}') { put(out, it.key.toString()); out.append(':'); put(out, it.value) }
            is List<*> -> putAll(out, '[', value, ']') { put(out, it) }
            is LongArray -> putAll(out, '[', value.asList(), ']') { out.append(it) }
            is String -> putText(out, value)
            is Double -> out.append(if (value.isFinite()) value.toString() else "null")
            else -> out.append(value)
        }
    }

    private fun <T> putAll(out: StringBuilder, open: Char, values: Collection<T>, close: Char, each: (T) -> Unit) {
        out.append(open)
        values.forEachIndexed { i, value -> if (i > 0) out.append(','); each(value) }
        out.append(close)
    }

    private fun putText(out: StringBuilder, text: String) {
        out.append('"')
        for (c in text) when {
            c == '"' || c == '\\' -> out.append('\\').append(c)
            c < ' ' || c.isSurrogate() -> out.append("\\u").append(c.code.toString(16).padStart(4, '0'))
            else -> out.append(c)
        }
        out.append('"')
    }

    fun read(text: String): Any? = Reader(text).run { value(0).also { if (!isAtEnd()) throw Malformed("text after the value") } }

    private class Reader(private val text: String) {
        private var at = 0

        fun isAtEnd(): Boolean { skip(); return at == text.length }

        private fun skip() { while (at < text.length && text[at] in " \t\r\n") at++ }

        private fun next(): Char = if (at < text.length) text[at++] else throw Malformed("it ends early")

        private fun take(c: Char): Boolean { skip(); return (at < text.length && text[at] == c).also { if (it) at++ } }

        private fun need(c: Char) { if (!take(c)) throw Malformed("'$c' is missing at $at") }

        fun value(depth: Int): Any? {
            if (depth > 64) throw Malformed("it is nested too deeply")
            skip()
            return when (val c = next()) {
                '{' -> members(depth)
                '[' -> items(depth)
                '"' -> string()
                else -> { at--; word(c) }
            }
        }

        private fun members(depth: Int): Map<String, Any?> {
            val found = LinkedHashMap<String, Any?>()
            if (take('}')) return found
            do { need('"'); val name = string(); need(':'); found[name] = value(depth + 1) } while (take(','))
            need('}')
            return found
        }

        private fun items(depth: Int): List<Any?> {
            val found = ArrayList<Any?>()
            if (take(']')) return found
            do found.add(value(depth + 1)) while (take(','))
            need(']')
            return found
        }

        private fun string(): String {
            val out = StringBuilder()
            while (true) when (val c = next()) {
                '"' -> return out.toString()
                '\\' -> out.append(escaped())
                else -> out.append(c)
            }
        }

        private fun escaped(): Char = when (val c = next()) {
            'n' -> '\n'
            't' -> '\t'
            'r' -> '\r'
            'b' -> '\b'
            'f' -> '\u000c'
            'u' -> (1..4).fold(0) { sum, _ -> sum * 16 + Character.digit(next(), 16) }.toChar()
            else -> c
        }

        private fun word(first: Char): Any? {
            val start = at
            while (at < text.length && (text[at].isLetterOrDigit() || text[at] in "+-.")) at++
            val word = text.substring(start, at)
            return when (word) {
                "true" -> true
                "false" -> false
                "null" -> null
                else -> word.toLongOrNull() ?: word.toDoubleOrNull() ?: throw Malformed("$first is no value")
            }
        }
    }
}

typealias Message = Map<String, Any?>

fun Message.text(name: String): String = this[name] as? String ?: ""

fun Message.number(name: String): Long = (this[name] as? Number)?.toLong() ?: 0

fun Message.inner(name: String): Message {
    val found = this[name] as? Map<*, *> ?: return emptyMap()
    return found.entries.associate { it.key.toString() to it.value }
}
