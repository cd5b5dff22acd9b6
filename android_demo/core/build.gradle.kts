import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.kotlin.jvm)
}

java {
    sourceCompatibility = JavaVersion.VERSION_1_8
    targetCompatibility = JavaVersion.VERSION_1_8
}

kotlin {
    compilerOptions {
        jvmTarget = JvmTarget.JVM_1_8
        allWarningsAsErrors = true
    }
}

dependencies {
    testImplementation(libs.junit)
    testRuntimeOnly(libs.junit.launcher)
}

// The words that people read, from the Python package.
tasks.processResources {
    from(rootDir.resolve("../edge_runtime")) { include("words/*.json") }
}

tasks.test {
    useJUnitPlatform()
    systemProperty("vectors", rootDir.resolve("../tests/vectors").path)
}
