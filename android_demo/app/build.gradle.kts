import java.security.MessageDigest
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

plugins {
    alias(libs.plugins.android.application)
}

android {
    namespace = "org.sonoedge.app"
    compileSdk = libs.versions.compile.sdk.get().toInt()

    defaultConfig {
        applicationId = "org.sonoedge.app"
        minSdk = libs.versions.min.sdk.get().toInt()
        targetSdk = libs.versions.target.sdk.get().toInt()
        versionCode = 1
        versionName = "0.1.0"
        // The interpreter's libraries for phones and for the emulator.
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
}

dependencies {
    implementation(project(":core"))
    implementation(libs.litert)
}

/** Zips a bundle as an asset, and pins its digest: the SHA-256 of its SHA256SUMS. */
abstract class BundleAsset : DefaultTask() {
    @get:InputDirectory
    @get:PathSensitive(PathSensitivity.RELATIVE)
    abstract val bundle: DirectoryProperty

    @get:OutputDirectory
    abstract val assets: DirectoryProperty

    @TaskAction
    fun write() {
        val sums = bundle.file("SHA256SUMS").get().asFile
        require(sums.isFile) { "${bundle.get()} is not a bundle: it holds no SHA256SUMS." }
        val digest = MessageDigest.getInstance("SHA-256").digest(sums.readBytes())
        assets.file("bundle.sha256").get().asFile.writeText(digest.joinToString("") { "%02x".format(it) } + "\n")
        val root = bundle.get().asFile
        ZipOutputStream(assets.file("bundle.zip").get().asFile.outputStream()).use { zip ->
            for (file in root.walk().filter { it.isFile }.sorted()) {
                zip.putNextEntry(ZipEntry(file.relativeTo(root).invariantSeparatorsPath))
                file.inputStream().use { it.copyTo(zip) }
            }
        }
    }
}

/** Who may sign the bundles that a person opens: `name:key`, several parted by commas. */
abstract class SignersAsset : DefaultTask() {
    @get:Input
    abstract val signers: Property<String>

    @get:OutputDirectory
    abstract val assets: DirectoryProperty

    @TaskAction
    fun write() {
        val lines = signers.get().split(",").map { it.trim() }.map { signer ->
            val match = Regex("([A-Za-z0-9 ._-]+):([0-9a-f]{64})").matchEntire(signer)
            require(match != null) { "sonoedge.signers must be name:key with 64 hexadecimal digits. Received: '$signer'." }
            "\"${match.groupValues[1]}\": \"${match.groupValues[2]}\""
        }
        assets.file("signers.json").get().asFile.writeText("{${lines.joinToString()}}\n")
    }
}

val bundlePath = providers.gradleProperty("sonoedge.bundle").getOrElse("")
if (bundlePath.isNotEmpty()) {
    val bundleAsset = tasks.register<BundleAsset>("bundleAsset") { bundle.set(file(bundlePath)) }
    androidComponents.onVariants { variant ->
        variant.sources.assets?.addGeneratedSourceDirectory(bundleAsset, BundleAsset::assets)
    }
}

val signerKeys = providers.gradleProperty("sonoedge.signers").getOrElse("")
if (signerKeys.isNotEmpty()) {
    val signersAsset = tasks.register<SignersAsset>("signersAsset") { signers.set(signerKeys) }
    androidComponents.onVariants { variant ->
        variant.sources.assets?.addGeneratedSourceDirectory(signersAsset, SignersAsset::assets)
    }
}
