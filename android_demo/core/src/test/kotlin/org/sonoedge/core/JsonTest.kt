package org.sonoedge.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource
import kotlin.random.Random

class JsonTest {
    @Test
    fun `reads every kind of value`() {
        val text = """ {"a": [1, -2.5e3, true, false, null], "b": {"c": "\u00e9\n\"\\/"}, "": {}, "d": []} """
        val wanted = mapOf(
            "a" to listOf(1L, -2500.0, true, false, null), "b" to mapOf("c" to "é\n\"\\/"),
            "" to emptyMap<String, Any>(), "d" to emptyList<Any>(),
        )
        assertEquals(wanted, JsonReader.read(text))
    }

    @ParameterizedTest
    @ValueSource(
        strings = [
            "", " ", "{", "[1,]", "{\"a\":1,}", "{\"a\":1,\"a\":2}", "{a:1}", "'a'", "\"a", "\"\t\"", "\"\\x\"",
            "\"\\u12\"", "\"\\u12g4\"", "01", "1.", ".5", "+1", "NaN", "Infinity", "tru", "nul", "1 2", "[1 2]", "{} x",
            "123456789012345678901234567890", "1e99999", "// c\n1", "\uFEFF1",
        ],
    )
    fun `refuses what RFC 8259 or this reader refuses`(text: String) {
        val error = assertThrows<IllegalArgumentException> { JsonReader.read(text) }
        assertTrue("line" in error.message!!, error.message)
    }

    @Test
    fun `deep nesting is an error, not a stack overflow`() {
        for (open in listOf("[", "{\"a\":")) {
            assertThrows<IllegalArgumentException> { JsonReader.read(open.repeat(100_000)) }
        }
    }

    @Test
    fun `errors name the line`() {
        assertTrue("(line 3)" in assertThrows<IllegalArgumentException> { JsonReader.read("{\n\"a\":\nx}") }.message!!)
    }

    @Test
    fun `whatever is written is read back`() {
        val random = Random(4)
        repeat(500) {
            val value = randomValue(random, 0)
            assertEquals(value, JsonReader.read(writeJson(value)))
        }
    }

    @Test
    fun `random edits give a value or an error, never anything else`() {
        val random = Random(5)
        val whole = writeJson(mapOf("a" to listOf(1.5, "x\"y", null, true)))
        repeat(2000) {
            val text = StringBuilder(whole)
            repeat(random.nextInt(1, 4)) { text[random.nextInt(text.length)] = random.nextInt(32, 127).toChar() }
            try {
                JsonReader.read(text.toString())
            } catch (_: IllegalArgumentException) {
                // refused
            }
        }
    }

    @Test
    fun `JSON has no NaN`() {
        assertThrows<IllegalArgumentException> { writeJson(mapOf("a" to Double.NaN)) }
        assertThrows<IllegalArgumentException> { writeJson(listOf(Float.POSITIVE_INFINITY)) }
    }

    private fun randomValue(random: Random, depth: Int): Any? = when (random.nextInt(if (depth > 3) 6 else 8)) {
        0 -> null
        1 -> random.nextBoolean()
        2 -> random.nextLong()
        3 -> random.nextDouble() * Math.pow(10.0, random.nextInt(-200, 200).toDouble())
        4, 5 -> String(CharArray(random.nextInt(8)) { random.nextInt(0, 0x300).toChar() })
        6 -> List(random.nextInt(4)) { randomValue(random, depth + 1) }
        else -> List(random.nextInt(4)) { "key $it" to randomValue(random, depth + 1) }.toMap()
    }
}
