package org.sonoedge.app

import android.content.Context
import org.sonoedge.core.Bundle
import org.sonoedge.core.BundleException
import org.sonoedge.core.loadBundle
import org.sonoedge.core.parseSigners
import org.sonoedge.core.readSignature
import org.sonoedge.core.unpackBundle
import org.sonoedge.core.verifySignature
import java.io.File
import java.io.FileNotFoundException
import java.io.InputStream

/**
 * The app's bundle, in its private folder, where no other app can change it. It comes from
 *
 *  - the build: the asset `bundle.zip`, which must have the digest in the asset `bundle.sha256`. It is unpacked at the
 *    first start, and again when an update of the app brings another one,
 *  - a person, who opens a zip. Where the build has the asset `signers.json`, one of those must have signed it.
 *
 * [asset] opens an asset by name; a missing one is a [FileNotFoundException].
 */
class BundleStore(private val context: Context, private val asset: (String) -> InputStream = context.assets::open) {
    private val own = File(context.filesDir, "bundle")

    /** The digest of the build's bundle that was unpacked last. */
    private val unpacked = File(context.filesDir, "bundle.sha256")

    /** The checked bundle, or null where there is none yet. */
    fun load(): Bundle? {
        val pinned = pinned()
        if (pinned != null && (!own.isDirectory || !unpacked.isFile || unpacked.readText() != pinned)) {
            val bundle = asset("bundle.zip").use { replace(it) { folder -> loadBundle(folder, pinned) } }
            unpacked.writeText(pinned)
            return bundle
        }
        return if (own.isDirectory) trusted(own) else null
    }

    /** Unpack and check a zipped bundle, then make it the app's own; the old one stays where the new one is refused. */
    fun import(zip: InputStream): Bundle = replace(zip, ::trusted)

    /** A bundle of the build, or one that this build's signers vouch for. */
    private fun trusted(folder: File): Bundle {
        val bundle = loadBundle(folder)
        val signers = text("signers.json")?.let(::parseSigners)
        // Damage of a signature is found with or without a key.
        if (signers == null || bundle.digest == pinned()) readSignature(folder) else verifySignature(folder, signers)
        return bundle
    }

    private fun pinned(): String? = text("bundle.sha256")?.trim()?.lowercase() ?: try {
        asset("bundle.zip").close()
        throw BundleException("This build holds a bundle without its digest (bundle.sha256). Build the app again.")
    } catch (_: FileNotFoundException) {
        null
    }

    private fun text(name: String): String? = try {
        asset(name).use { it.readBytes().decodeToString() }
    } catch (_: FileNotFoundException) {
        null
    }

    private fun replace(zip: InputStream, check: (File) -> Bundle): Bundle {
        val fresh = File(context.filesDir, "bundle.new")
        fresh.deleteRecursively()
        try {
            unpackBundle(zip, fresh)
            check(fresh)
            own.deleteRecursively()
            if (!fresh.renameTo(own)) throw BundleException("The bundle cannot be moved into place.")
        } finally {
            fresh.deleteRecursively()
        }
        return check(own)
    }
}
