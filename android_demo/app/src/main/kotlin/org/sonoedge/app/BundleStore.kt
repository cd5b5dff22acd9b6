package org.sonoedge.app

import android.content.Context
import org.sonoedge.core.Bundle
import org.sonoedge.core.BundleException
import org.sonoedge.core.loadBundle
import org.sonoedge.core.unpackBundle
import java.io.File
import java.io.FileNotFoundException
import java.io.InputStream

/**
 * Where the app's bundle is. The first that exists counts:
 *
 *  1. the folder `bundle` in the app's external files (`adb push bundle /sdcard/Android/data/org.sonoedge.app/files/`),
 *  2. the bundle opened last in the app,
 *  3. the asset `bundle.zip` of the build, which must have the digest in the asset `bundle.sha256`.
 *
 * [asset] opens an asset by name; a missing one is a [FileNotFoundException].
 */
class BundleStore(private val context: Context, private val asset: (String) -> InputStream = context.assets::open) {
    private val own = File(context.filesDir, "bundle")

    /** The checked bundle, or null where there is none yet. */
    fun load(): Bundle? {
        val pushed = context.getExternalFilesDir(null)?.let { File(it, "bundle") }
        if (pushed != null && pushed.isDirectory) return loadBundle(pushed)
        if (own.isDirectory) return loadBundle(own)
        return try {
            asset("bundle.zip").use(::install)
        } catch (_: FileNotFoundException) {
            null
        }
    }

    /** Unpack and check a zipped bundle, then make it the app's own; the old one stays where the new one is damaged. */
    fun import(zip: InputStream): Bundle = replace(zip, pinned = null)

    private fun install(zip: InputStream): Bundle {
        val pinned = try {
            asset("bundle.sha256").use { it.readBytes().decodeToString().trim() }
        } catch (_: FileNotFoundException) {
            throw BundleException("This build holds a bundle without its digest (bundle.sha256). Build the app again.")
        }
        return replace(zip, pinned)
    }

    private fun replace(zip: InputStream, pinned: String?): Bundle {
        val fresh = File(context.filesDir, "bundle.new")
        fresh.deleteRecursively()
        try {
            unpackBundle(zip, fresh)
            loadBundle(fresh, pinned)
            own.deleteRecursively()
            if (!fresh.renameTo(own)) throw BundleException("The bundle cannot be moved into place.")
        } finally {
            fresh.deleteRecursively()
        }
        return loadBundle(own, pinned)
    }
}
