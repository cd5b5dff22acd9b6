// Versions: gradle/libs.versions.toml. Kotlin for the app comes with the Android plugin, at the version named here.
plugins {
    alias(libs.plugins.android.application) apply false
    alias(libs.plugins.kotlin.jvm) apply false
}
