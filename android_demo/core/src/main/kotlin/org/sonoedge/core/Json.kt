package org.sonoedge.core

import java.math.BigDecimal

/**
 * A strict JSON reader (RFC 8259): no comments, no duplicate keys, no NaN, nothing after the value.
 *
 * Objects become [LinkedHashMap], arrays [List], whole numbers [Long], others [Double].
 */
class JsonReader private constructor(private val text: String) {
    private var at = 0

    private fun document(): Any? {
        val value = value(0)
        skipSpace()
        if (at != text.length) fail("unexpected text after the value")
        return value
    }

    private fun value(depth: Int): Any? {
        if (depth > MAX_DEPTH) fail("more than $MAX_DEPTH nested levels")
        skipSpace()
        return when (peek()) {
            '{' -> objectValue(depth)
            '[' -> arrayValue(depth)
            '"' -> string()
            't' -> word("true", true)
            'f' -> word("false", false)
            'n' -> word("null", null)
            else -> number()
        }
    }

    private fun objectValue(depth: Int): Map<String, Any?> {
        val result = LinkedHashMap<String, Any?>()
        at++
        skipSpace()
        if (accept('}')) return result
        do {
            skipSpace()
            if (peek() != '"') fail("a key must be a string")
            val key = string()
            skipSpace()
            expect(':')
            if (key in result) fail("the key \"$key\" appears twice")
            result[key] = value(depth + 1)
            skipSpace()
        } while (accept(','))
        expect('}')
        return result
    }

    private fun arrayValue(depth: Int): List<Any?> {
        val result = ArrayList<Any?>()
        at++
        skipSpace()
        if (accept(']')) return result
        do {
            result.add(value(depth + 1))
            skipSpace()
        } while (accept(','))
        expect(']')
        return result
    }

    private fun string(): String {
        at++
        val result = StringBuilder()
        while (true) {
            val char = next()
            when {
                char == '"' -> return result.toString()
                char == '\\' -> result.append(escape())
                char < ' ' -> fail("a control character inside a string")
                else -> result.append(char)
            }
        }
    }

    private fun escape(): Char = when (val char = next()) {
        '"', '\\', '/' -> char
        'b' -> '\b'
        'f' -> '\u000C'
        'n' -> '\n'
        'r' -> '\r'
        't' -> '\t'
        'u' -> {
            val digits = text.substring(at, minOf(at + 4, text.length))
            if (!HEX4.matches(digits)) fail("\\u needs four hexadecimal digits")
            at += 4
            digits.toInt(16).toChar()
        }
        else -> fail("unknown escape \\$char")
    }

    private fun number(): Number {
        val match = NUMBER.find(text, at)
        if (match == null || match.range.first != at) fail("a value was expected")
        at = match.range.last + 1
        if (match.value.any { it in ".eE" }) return BigDecimal(match.value).toDouble()
        return match.value.toLongOrNull() ?: fail("a whole number beyond 64 bits")
    }

    private fun <T> word(word: String, value: T): T {
        if (!text.startsWith(word, at)) fail("a value was expected")
        at += word.length
        return value
    }

    private fun skipSpace() {
        while (at < text.length && text[at] in " \t\n\r") at++
    }

    private fun peek(): Char = if (at < text.length) text[at] else fail("the text ends too early")

    private fun next(): Char = peek().also { at++ }

    private fun accept(char: Char): Boolean = (at < text.length && text[at] == char).also { if (it) at++ }

    private fun expect(char: Char) {
        if (!accept(char)) fail("'$char' was expected")
    }

    private fun fail(what: String): Nothing =
        throw IllegalArgumentException("$what (line ${text.take(at).count { it == '\n' } + 1})")

    companion object {
        private const val MAX_DEPTH = 100
        private val NUMBER = Regex("-?(0|[1-9][0-9]*)(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?")
        private val HEX4 = Regex("[0-9a-fA-F]{4}")

        /** The value of a JSON text; [IllegalArgumentException] with the line where it is not valid. */
        fun read(text: String): Any? = JsonReader(text).document()
    }
}

/** A JSON text, indented by two spaces, of maps, lists, strings, numbers, booleans and null; NaN is refused. */
fun writeJson(value: Any?): String = buildString { appendJson(value, "") }

private fun StringBuilder.appendJson(value: Any?, indent: String) {
    when (value) {
        null, is Boolean, is Int, is Long -> append(value.toString())
        is Float, is Double -> {
            require((value as Number).toDouble().isFinite()) { "JSON has no $value." }
            append(value.toString())
        }
        is String -> appendQuoted(value)
        is Map<*, *> -> appendItems('{', '}', value.entries, indent) { (key, item) ->
            appendQuoted(key as String)
            append(": ")
            appendJson(item, "$indent  ")
        }
        is List<*> -> appendItems('[', ']', value, indent) { appendJson(it, "$indent  ") }
        else -> throw IllegalArgumentException("JSON has no ${value.javaClass.name}.")
    }
}

private fun <T> StringBuilder.appendItems(
    open: Char, close: Char, items: Collection<T>, indent: String, one: StringBuilder.(T) -> Unit,
) {
    append(open)
    for ((index, item) in items.withIndex()) {
        append(if (index == 0) "\n" else ",\n").append(indent).append("  ")
        one(item)
    }
    if (items.isNotEmpty()) append('\n').append(indent)
    append(close)
}

private fun StringBuilder.appendQuoted(text: String) {
    append('"')
    for (char in text) {
        when {
            char == '"' || char == '\\' -> append('\\').append(char)
            char < ' ' -> append("\\u%04x".format(char.code))
            else -> append(char)
        }
    }
    append('"')
}
