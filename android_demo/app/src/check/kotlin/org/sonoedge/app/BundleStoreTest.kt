package org.sonoedge.app

import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.sonoedge.core.BundleException
import org.sonoedge.core.SIGNATURE
import org.sonoedge.core.loadBundle
import java.io.File
import java.io.FileNotFoundException

/** Which bundle the app takes, and whose. */
@RunWith(RobolectricTestRunner::class)
class BundleStoreTest {
    @get:Rule
    val temporary = TemporaryFolder()

    private val context = RuntimeEnvironment.getApplication()
    private val plain = loadBundle(Vectors.bundle).digest
    private val other by lazy { loadBundle(ungated()).digest }

    /** A store of a build with these assets. */
    private fun store(vararg assets: Pair<String, ByteArray>): BundleStore {
        val named = mapOf(*assets)
        return BundleStore(context) { name -> (named[name] ?: throw FileNotFoundException(name)).inputStream() }
    }

    private fun built(zip: ByteArray, digest: String) =
        arrayOf("bundle.zip" to zip, "bundle.sha256" to "$digest\n".toByteArray())

    /** Another bundle than the small one. */
    private fun ungated(): File = temporary.newFolder().also {
        Vectors.bundle.copyRecursively(it, overwrite = true)
        removeGate(it)
    }

    private fun signed(case: Map<String, Any?>): ByteArray {
        val folder = temporary.newFolder()
        Vectors.bundle.copyRecursively(folder, overwrite = true)
        (case["file"] as String?)?.let { File(folder, SIGNATURE).writeText(it) }
        return zipOfBundle(folder)
    }

    private fun refused(vararg words: String, action: () -> Unit) {
        val error = assertThrows(BundleException::class.java) { action() }
        for (word in words) assertTrue(error.message, word in error.message)
    }

    @Test
    fun `a built-in bundle is unpacked where its digest is the pinned one, and only there`() {
        assertNull(store().load())
        refused("without its digest") { store("bundle.zip" to zipOfBundle()).load() }
        refused("not the bundle that the app was built for") { store(*built(zipOfBundle(), "0".repeat(64))).load() }
        assertNull(store().load())
        assertEquals(plain, store(*built(zipOfBundle(), plain)).load()!!.digest)
        // Unpacked once; from then on it is the app's own.
        assertEquals(plain, store(*built("no zip".toByteArray(), plain)).load()!!.digest)
    }

    @Test
    fun `a folder on external storage is no bundle of the app's`() {
        val pushed = File(context.getExternalFilesDir(null), "bundle")
        ungated().copyRecursively(pushed)
        assertNull(store().load())
        assertEquals(plain, store(*built(zipOfBundle(), plain)).load()!!.digest)
    }

    @Test
    fun `an update with another bundle replaces the old one, one with the same keeps what a person opened`() {
        assertNotEquals(plain, other)
        assertEquals(plain, store(*built(zipOfBundle(), plain)).load()!!.digest)
        val update = built(zipOfBundle(ungated()), other)
        assertEquals(other, store(*update).load()!!.digest)
        val cascade = loadBundle(Vectors.cascade).digest
        store(*update).import(zipOfBundle(Vectors.cascade).inputStream())
        assertEquals(cascade, store(*update).load()!!.digest)
        assertEquals(plain, store(*built(zipOfBundle(), plain)).load()!!.digest)
        // A build that brings none takes nothing away.
        assertEquals(plain, store().load()!!.digest)
    }

    @Test
    fun `an update that is not what it was built with leaves the old bundle, and does not run it`() {
        store(*built(zipOfBundle(), plain)).load()
        refused("not the bundle that the app was built for") { store(*built(zipOfBundle(), other)).load() }
        assertEquals(plain, store(*built(zipOfBundle(), plain)).load()!!.digest)
    }

    @Test
    fun `a build with signers takes their bundles only`() {
        for (case in Vectors.cases("signature")) {
            @Suppress("UNCHECKED_CAST")
            val signers = case["signers"] as Map<String, String>
            val json = signers.entries.joinToString(prefix = "{", postfix = "}") { (name, key) -> "\"$name\": \"$key\"" }
            val store = store("signers.json" to json.toByteArray())
            val words = case["words"] as List<*>?
            if (words == null) {
                assertEquals(plain, store.import(signed(case).inputStream()).digest)
                // Looked at again at every start.
                File(context.filesDir, "bundle/$SIGNATURE").delete()
                refused("is not signed") { store.load() }
                File(context.filesDir, "bundle").deleteRecursively()
            } else {
                refused(*words.map { it as String }.toTypedArray()) { store.import(signed(case).inputStream()) }
                assertNull(store.load())
            }
        }
    }

    @Test
    fun `the build's own bundle needs no signature, an opened one needs it`() {
        val key = "{\"clinic\": \"${"0".repeat(64)}\"}".toByteArray()
        val store = store(*built(zipOfBundle(), plain), "signers.json" to key)
        assertEquals(plain, store.load()!!.digest)
        assertEquals(plain, store.load()!!.digest)
        refused("is not signed", "clinic") { store.import(zipOfBundle(ungated()).inputStream()) }
        assertEquals(plain, store.load()!!.digest)
    }

    @Test
    fun `signers that cannot be read let nothing in, and a damaged signature is found without any`() {
        refused("This build's signers") { store("signers.json" to "{}".toByteArray()).import(zipOfBundle().inputStream()) }
        val damaged = Vectors.cases("signature").first { (it["words"] as List<*>?)?.contains("SHA256SUMS.sig is damaged") == true }
        refused("SHA256SUMS.sig is damaged") { store().import(signed(damaged).inputStream()) }
        assertEquals(plain, store().import(signed(Vectors.cases("signature")[0]).inputStream()).digest)
    }
}
