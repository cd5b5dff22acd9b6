package org.sonoedge.core

import java.io.File

/** Signs SHA256SUMS, and so cannot be listed in it; see `edge_runtime.bundle.trust`. */
const val SIGNATURE = "SHA256SUMS.sig"

/** The content of SHA256SUMS.sig: public key (32 bytes) and signature (64 bytes) as hexadecimal digits. */
data class Signature(val key: String, val signature: String)

/**
 * The signature file of a bundle, or null.
 *
 * @throws BundleException it is damaged, or belongs to another SHA256SUMS.
 */
fun readSignature(folder: File): Signature? {
    val file = File(folder, SIGNATURE)
    if (!file.exists()) return null
    val match = SIGNATURE_FILE.matchEntire(String(file.readBytes(), Charsets.ISO_8859_1))
    if (match == null || sha256(match.groupValues[1].toByteArray()) != match.groupValues[5]) {
        throw BundleException("$SIGNATURE is damaged.")
    }
    if (sha256(File(folder, SUMS)) != match.groupValues[3]) {
        throw BundleException("$SIGNATURE was made for another $SUMS: the bundle has changed since it was signed.")
    }
    return Signature(match.groupValues[2], match.groupValues[4])
}

/**
 * The name of the signer.
 *
 * @param signers name -> public key as 64 lower-case hexadecimal digits, as `allowed_signers` of a policy.
 * @throws BundleException not signed, signed by somebody else, forged, or as [readSignature].
 */
fun verifySignature(folder: File, signers: Map<String, String>): String {
    val allowed = "This app takes bundles of: ${signers.keys.joinToString()}."
    val found = readSignature(folder) ?: throw BundleException("The bundle is not signed. $allowed")
    val name = signers.entries.firstOrNull { it.value == found.key }?.key
        ?: throw BundleException("The bundle is signed by the unknown key ${found.key.take(16)}…. $allowed")
    if (!ed25519Verifies(bytesOf(found.key), File(folder, SUMS).readBytes(), bytesOf(found.signature))) {
        throw BundleException("The bundle's signature is forged: it was not made with the key of $name.")
    }
    return name
}

/**
 * Signers as a build names them, a JSON object as `allowed_signers` of a policy; no signer at all is refused, too.
 *
 * @throws BundleException anything else: a rule is never half understood.
 */
fun parseSigners(json: String): Map<String, String> {
    val body = try {
        JsonReader.read(json) as? Map<*, *>
    } catch (_: IllegalArgumentException) {
        null
    }
    val signers = body.orEmpty().mapKeys { it.key as String }.mapValues { it.value as? String ?: "" }
    if (signers.isEmpty() || signers.values.any { !KEY.matches(it) }) {
        throw BundleException("This build's signers must be names with keys of 64 lower-case hexadecimal digits.")
    }
    return signers
}

private fun bytesOf(hexadecimal: String) =
    ByteArray(hexadecimal.length / 2) { hexadecimal.substring(2 * it, 2 * it + 2).toInt(16).toByte() }

private val KEY = Regex("[0-9a-f]{64}")
private val SIGNATURE_FILE = Regex(
    "(sonoedge-signature 1\nkey ([0-9a-f]{64})\nsums ([0-9a-f]{64})\nsignature ([0-9a-f]{128})\n)check ([0-9a-f]{64})\n",
)
