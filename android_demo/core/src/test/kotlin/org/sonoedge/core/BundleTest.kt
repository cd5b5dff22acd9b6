package org.sonoedge.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNotNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import java.io.ByteArrayOutputStream
import java.io.File
import java.nio.file.Files
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

class BundleTest {
    @TempDir
    lateinit var temporary: File

    @Test
    fun `reads what Python wrote`() {
        val bundle = loadBundle(Vectors.bundle)
        assertEquals(listOf("benign", "malignant"), bundle.labels)
        assertEquals("benign", bundle.negativeLabel)
        assertEquals(InputSpec(48, 48), bundle.input)
        assertEquals(listOf("tflite-int8", "tflite-fp32"), bundle.runnable.map { it.name })
        assertEquals(listOf(1, 12, 12, 5), bundle.branches[0].shape)
        assertTrue(bundle.intendedUse.startsWith("Research use only."))
        assertEquals(sha256(File(Vectors.bundle, SUMS)), bundle.digest)
    }

    @Test
    fun `reads a cascade of schema 1 as what it became`() {
        val (old, new) = listOf(Vectors.oldCascade, Vectors.cascade).map(::loadBundle)
        assertEquals(new, old.copy(folder = new.folder, digest = new.digest, first = new.first))
        val (oldFirst, newFirst) = listOf(old, new).map { it.first ?: error("a cascade holds two bundles") }
        assertEquals(newFirst, oldFirst.copy(folder = newFirst.folder, digest = newFirst.digest))
    }

    @TestFactory
    fun `a changed bundle is refused in the words that Python uses`() = refused("bundle_errors", Vectors.bundle)

    @TestFactory
    fun `a changed cascade is refused in the words that Python uses`() = refused("cascade_errors", Vectors.cascade)

    private fun refused(cases: String, bundle: File): List<DynamicTest> =
        Vectors.cases(cases).map { case ->
            dynamicTest(writeJson(case["change"]).replace(Regex("\\s+"), " ")) {
                val folder = copyOf(bundle)
                apply(folder, case.map("change"))
                val error = assertThrows<BundleException> { loadBundle(folder) }
                for (word in case.item<List<String>>("words")) {
                    assertTrue(word in error.message, "'$word' is not in: ${error.message}")
                }
                assertTrue(error.message.endsWith("."), error.message)
            }
        }

    @Test
    fun `no folder, no bundle`() {
        assertMessage("No such bundle folder: nowhere.") { loadBundle(File(temporary, "nowhere")) }
    }

    @Test
    fun `a pinned digest accepts its bundle only`() {
        val digest = loadBundle(Vectors.bundle).digest
        assertEquals(digest, loadBundle(Vectors.bundle, digest.uppercase()).digest)
        val error = assertThrows<BundleException> { loadBundle(Vectors.bundle, digest.reversed()) }
        assertTrue("not the bundle that the app was built for" in error.message)
    }

    @Test
    fun `links are refused`() {
        val folder = copyOf(Vectors.bundle)
        Files.createSymbolicLink(File(folder, "link").toPath(), File("/etc/hostname").toPath())
        val error = assertThrows<BundleException> { loadBundle(folder) }
        assertTrue("link" in error.message)
    }

    @Test
    fun `a zip is unpacked, with or without a folder around the bundle`() {
        for (prefix in listOf("", "my bundle/")) {
            val target = File(temporary, "unpacked${prefix.length}")
            unpackBundle(zip(prefix).inputStream(), target)
            assertEquals("small", loadBundle(target).name)
        }
    }

    @Test
    fun `a zip keeps the bundle inside a cascade's`() {
        for (prefix in listOf("", "my bundle/")) {
            val target = File(temporary, "unpacked${prefix.length}")
            unpackBundle(zip(prefix, Vectors.cascade).inputStream(), target)
            assertEquals(loadBundle(Vectors.cascade).digest, loadBundle(target).digest)
            assertEquals("student", loadBundle(target).first?.name)
        }
    }

    @Test
    fun `a truncated zip, no zip and an evil zip leave nothing behind`() {
        val whole = zip("")
        val evil = zipOf("../evil.txt" to byteArrayOf(1))
        for ((data, words) in listOf(
            whole.copyOf(whole.size / 2) to "bundle",
            "no zip".toByteArray() to "not a zip file",
            ByteArray(0) to "not a zip file",
            evil to "plain path",
        )) {
            val target = File(temporary, "target")
            val error = assertThrows<BundleException> { unpackBundle(data.inputStream(), target) }
            assertTrue(words in error.message, error.message)
            assertFalse(target.exists())
        }
        assertFalse(File(temporary, "evil.txt").exists())
    }

    @Test
    fun `a zip cut anywhere never becomes a bundle`() {
        val whole = zip("")
        // The central directory at the end is not needed to unpack; everything before it is.
        val contentEnd = whole.indices.first { i -> whole.copyOfRange(i, minOf(i + 4, whole.size)).contentEquals(CENTRAL) }
        for (length in 1 until contentEnd step 1500) {
            val target = File(temporary, "cut$length")
            assertThrows<BundleException>("$length bytes") {
                unpackBundle(whole.copyOf(length).inputStream(), target)
                loadBundle(target)
            }
        }
    }

    private fun copyOf(bundle: File): File {
        val folder = Files.createTempDirectory(temporary.toPath(), "").resolve("bundle").toFile()
        bundle.copyRecursively(folder)
        assertNotNull(loadBundle(folder))
        return folder
    }

    private fun zip(prefix: String, bundle: File = Vectors.bundle): ByteArray = zipOf(
        *bundle.walk().filter { it.isFile }.map { file ->
            prefix + file.relativeTo(bundle).invariantSeparatorsPath to file.readBytes()
        }.toList().toTypedArray(),
    )

    private fun zipOf(vararg files: Pair<String, ByteArray>): ByteArray {
        val bytes = ByteArrayOutputStream()
        ZipOutputStream(bytes).use { zip ->
            for ((name, data) in files) {
                zip.putNextEntry(ZipEntry(name))
                zip.write(data)
            }
        }
        return bytes.toByteArray()
    }

    private fun assertMessage(message: String, action: () -> Unit) {
        assertEquals(message, assertThrows<BundleException> { action() }.message)
    }

    private companion object {
        val CENTRAL = byteArrayOf('P'.code.toByte(), 'K'.code.toByte(), 1, 2)
    }
}

/** See `bundle_error_vectors` in scripts/vectors/errors.py. */
private fun apply(folder: File, change: Map<*, *>) {
    fun file(kind: String) = File(folder, change[kind] as String)
    change["folder"]?.let { inner ->
        apply(File(folder, inner as String), change - "folder")
        return renewSums(folder)
    }
    when (change.keys.first()) {
        "delete" -> check(file("delete").delete())
        "add" -> file("add").writeText("")
        "truncate" -> file("truncate").let { it.writeBytes(it.readBytes().let { data -> data.copyOf(data.size / 2) }) }
        "flip" -> file("flip").let { f ->
            f.writeBytes(f.readBytes().also { data -> data[data.lastIndex] = (data.last().toInt() xor 1).toByte() })
        }
        "sums" -> {
            val (old, new) = change.item<List<String>>("sums")
            File(folder, SUMS).let { it.writeText(it.readText().replace(old, new)) }
        }
        "text" -> {
            File(folder, MANIFEST).writeText(change["text"] as String)
            renewSums(folder)
        }
        "replace" -> {
            val (old, new) = change.item<List<String>>("replace")
            val text = File(folder, MANIFEST).readText()
            check(old in text)
            File(folder, MANIFEST).writeText(text.replace(old, new))
            renewSums(folder)
        }
        else -> {
            val body = JsonReader.read(File(folder, MANIFEST).readText())
            val path = change.item<List<Any>>("manifest")
            File(folder, MANIFEST).writeText(writeJson(edited(body, path, change)))
            renewSums(folder)
        }
    }
}

private fun edited(body: Any?, path: List<Any>, change: Map<*, *>): Any? {
    val key = path.first()
    if (body is List<*>) return body.mapIndexed { i, item -> if (i.toLong() == key) edited(item, path.drop(1), change) else item }
    val fields = LinkedHashMap(body as Map<*, *>)
    if (path.size > 1) fields[key] = edited(fields[key], path.drop(1), change)
    else if (change["remove"] == true) fields.remove(key)
    else fields[key] = change["value"]
    return fields
}

private fun renewSums(folder: File) {
    val names = folder.walk().filter { it.isFile }.map { it.relativeTo(folder).invariantSeparatorsPath }
    val listed = names.filter { it != SUMS }.sorted()
    File(folder, SUMS).writeText(listed.joinToString("") { "${sha256(File(folder, it))}  $it\n" })
}
