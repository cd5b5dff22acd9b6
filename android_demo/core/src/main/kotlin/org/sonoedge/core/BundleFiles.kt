package org.sonoedge.core

import java.io.File
import java.io.IOException
import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.nio.file.Files
import java.security.MessageDigest
import java.util.zip.ZipException
import java.util.zip.ZipInputStream

const val SUMS = "SHA256SUMS"

/** SHA-256 of a file's content, 64 lower-case hexadecimal digits, read in blocks. */
fun sha256(file: File): String = file.inputStream().use { stream ->
    val digest = MessageDigest.getInstance("SHA-256")
    val block = ByteArray(1 shl 16)
    while (true) {
        val count = stream.read(block)
        if (count < 0) break
        digest.update(block, 0, count)
    }
    hexadecimal(digest)
}

/** SHA-256 of bytes, as of a file. */
internal fun sha256(bytes: ByteArray): String =
    hexadecimal(MessageDigest.getInstance("SHA-256").apply { update(bytes) })

/**
 * Compare every file of a bundle with its SHA256SUMS.
 *
 * @throws BundleException a malformed line, a path that leaves the bundle, a link, a missing, extra or changed file.
 */
fun checkSums(folder: File) {
    val digests = readSums(folder)
    val present = filesIn(folder) - SUMS - SIGNATURE
    val missing = (digests.keys - present).sorted()
    if (missing.isNotEmpty()) throw BundleException("The bundle is incomplete: ${missing.joinToString()} is missing.")
    val extra = (present - digests.keys).sorted()
    if (extra.isNotEmpty()) {
        throw BundleException("The bundle holds files that $SUMS does not list: ${extra.joinToString()}.")
    }
    for ((name, digest) in digests) {
        if (sha256(File(folder, name)) != digest) {
            throw BundleException("$name has changed since the bundle was written (SHA-256 differs).")
        }
    }
}

/**
 * Unpack a zipped bundle into an empty or missing folder; nothing is left there when it fails.
 *
 * The zip may hold the bundle at its top or inside one folder.
 *
 * @throws BundleException not a zip, truncated, a path that leaves the folder, or larger than [MAX_UNPACKED_BYTES].
 */
fun unpackBundle(zip: InputStream, target: File) {
    try {
        target.mkdirs()
        var left = MAX_UNPACKED_BYTES
        var files = 0
        val input = ZipInputStream(zip)
        while (true) {
            val entry = input.nextEntry ?: break
            if (entry.isDirectory) continue
            checkPath(entry.name, "The zip file's entry")
            val file = File(target, entry.name)
            file.parentFile?.mkdirs()
            left -= file.outputStream().use { copyAtMost(input, it, left) }
            files++
        }
        if (files == 0) throw BundleException("The bundle file is not a zip file, or it is empty.")
        liftSingleFolder(target)
    } catch (error: ZipException) {
        target.deleteRecursively()
        throw BundleException("The bundle's zip file is damaged: ${error.message}.", error)
    } catch (error: IOException) {
        target.deleteRecursively()
        throw BundleException("The bundle cannot be unpacked: ${error.message ?: "the file ends too early"}.", error)
    } catch (error: BundleException) {
        target.deleteRecursively()
        throw error
    }
}

/** Upper bound of an unpacked bundle on a phone, in bytes. */
const val MAX_UNPACKED_BYTES: Long = 1L shl 30

internal fun readSums(folder: File): Map<String, String> {
    val sums = File(folder, SUMS)
    if (!sums.isFile) throw BundleException("${folder.name} holds no $SUMS: nothing in it can be trusted.")
    val text = try {
        decodeUtf8(sums.readBytes())
    } catch (error: CharacterCodingException) {
        throw BundleException("$SUMS is not UTF-8 text.", error)
    }
    if (!text.endsWith("\n")) throw BundleException("$SUMS does not end with a line feed.")
    val digests = LinkedHashMap<String, String>()
    for ((index, line) in text.dropLast(1).split("\n").withIndex()) {
        val match = SUMS_LINE.matchEntire(line)
            ?: throw BundleException("$SUMS line ${index + 1} is not '<64 hexadecimal digits>  <path>'.")
        val (digest, name) = match.destructured
        checkPath(name, "$SUMS line ${index + 1}")
        if (digests.put(name, digest) != null) throw BundleException("$SUMS lists $name twice.")
    }
    if (digests.keys.toList() != digests.keys.sortedWith(BY_CODE_POINT)) {
        throw BundleException("$SUMS is not sorted by path.")
    }
    return digests
}

/** Refuse a [name] that is not a plain relative path: absolute, `..`, `.`, empty parts, back-slash or colon. */
internal fun checkPath(name: String, where: String) {
    val parts = name.split('/')
    if (parts.any { it.isEmpty() || it == "." || it == ".." } || '\\' in name || ':' in name || '\u0000' in name) {
        throw BundleException("$where is not a plain path inside the bundle: '$name'.")
    }
}

internal fun decodeUtf8(bytes: ByteArray): String =
    Charsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString()

private fun filesIn(folder: File, prefix: String = ""): Set<String> {
    val names = HashSet<String>()
    for (file in folder.listFiles() ?: throw BundleException("The folder ${folder.name} cannot be read.")) {
        if (Files.isSymbolicLink(file.toPath())) {
            throw BundleException("The bundle holds a link, which could lead out of it: ${file.name}.")
        }
        if (file.isDirectory) names += filesIn(file, "$prefix${file.name}/") else names += prefix + file.name
    }
    return names
}

private fun copyAtMost(input: InputStream, output: java.io.OutputStream, limit: Long): Long {
    val block = ByteArray(1 shl 16)
    var copied = 0L
    while (true) {
        val count = input.read(block)
        if (count < 0) return copied
        copied += count
        if (copied > limit) throw BundleException("The bundle is larger than ${MAX_UNPACKED_BYTES shr 20} MiB unpacked.")
        output.write(block, 0, count)
    }
}

private fun liftSingleFolder(target: File) {
    val only = target.listFiles()?.singleOrNull { true } ?: return
    if (!only.isDirectory) return
    val aside = File(target.parentFile, "${target.name}.inner")
    if (!only.renameTo(aside) || !target.delete() || !aside.renameTo(target)) {
        throw BundleException("The bundle cannot be moved into place.")
    }
}

private val SUMS_LINE = Regex("([0-9a-f]{64})  ([^\\s][^\\n]*)")

private val BY_CODE_POINT = Comparator<String> { a, b ->
    val (x, y) = a.codePoints().toArray() to b.codePoints().toArray()
    val at = (0 until minOf(x.size, y.size)).firstOrNull { x[it] != y[it] }
    if (at == null) x.size.compareTo(y.size) else x[at].compareTo(y[at])
}

private fun hexadecimal(digest: MessageDigest) = digest.digest().joinToString("") { "%02x".format(it) }
