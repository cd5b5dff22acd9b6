package org.sonoedge.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.security.KeyPairGenerator
import kotlin.random.Random

class SignatureTest {
    @TempDir
    lateinit var temporary: File

    @TestFactory
    fun `Ed25519 is Python's`(): List<DynamicTest> = Vectors.cases("ed25519").mapIndexed { i, case ->
        dynamicTest("$i ${case["valid"]}") {
            val (key, message, signature) = listOf("key", "message", "signature").map { bytes(case[it] as String) }
            assertEquals(case["valid"], ed25519Verifies(key, message, signature))
        }
    }

    @Test
    fun `Ed25519 is Java's, where Java has it`() {
        val random = Random(1)
        repeat(20) {
            val pair = KeyPairGenerator.getInstance("Ed25519").generateKeyPair()
            // The raw key is the end of its DER form (RFC 8410).
            val key = pair.public.encoded.takeLast(32).toByteArray()
            val message = random.nextBytes(random.nextInt(300))
            val signature = java.security.Signature.getInstance("Ed25519").run {
                initSign(pair.private)
                update(message)
                sign()
            }
            assertTrue(ed25519Verifies(key, message, signature))
            val at = random.nextInt(64)
            assertFalse(ed25519Verifies(key, message, signature.clone().also { it[at] = (it[at].toInt() xor 4).toByte() }))
        }
    }

    @Test
    fun `what is no key and no signature verifies nothing`() {
        val random = Random(2)
        repeat(50) { assertFalse(ed25519Verifies(random.nextBytes(32), ByteArray(3), random.nextBytes(64))) }
        assertFalse(ed25519Verifies(ByteArray(31), ByteArray(0), ByteArray(64)))
        assertFalse(ed25519Verifies(ByteArray(32), ByteArray(0), ByteArray(63)))
        assertFalse(ed25519Verifies(ByteArray(32) { -1 }, ByteArray(0), ByteArray(64)))
    }

    @TestFactory
    fun `signatures of a bundle are judged as in Python, in its words`(): List<DynamicTest> =
        Vectors.cases("signature").mapIndexed { i, case ->
            dynamicTest("$i ${case["signer"] ?: case["words"]}") {
                val folder = File(temporary, "bundle")
                Vectors.bundle.copyRecursively(folder)
                (case["file"] as String?)?.let { File(folder, SIGNATURE).writeText(it) }
                loadBundle(folder)
                val signers = case.item<Map<String, String>>("signers")
                val words = case["words"] as List<*>?
                if (words == null) {
                    assertEquals(case["signer"], verifySignature(folder, signers))
                } else {
                    val error = assertThrows<BundleException> { verifySignature(folder, signers) }
                    for (word in words) assertTrue(word as String in error.message, error.message)
                }
                folder.deleteRecursively()
            }
        }

    @Test
    fun `a bundle without a signature has none, and signers are read strictly`() {
        assertNull(readSignature(Vectors.bundle))
        val key = "0123456789abcdef".repeat(4)
        assertEquals(mapOf("clinic" to key), parseSigners("{\"clinic\": \"$key\"}\n"))
        for (text in listOf("", "{}", "[]", "{\"a\": 1}", "{\"a\": \"${key.uppercase()}\"}", "{\"a\": \"${key.drop(1)}\"}")) {
            assertThrows<BundleException>(text) { parseSigners(text) }
        }
    }

    private fun bytes(text: String) = text.chunked(2).map { it.toInt(16).toByte() }.toByteArray()
}
