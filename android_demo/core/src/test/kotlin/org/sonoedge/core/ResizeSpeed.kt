package org.sonoedge.core

/**
 * Answers every line on standard input with the milliseconds of one resize; `tools/resize_speed.py` asks in turn with
 * Pillow.
 */
fun main() {
    val image = noise(768, 1024, 1)
    repeat(40) { resize(image, 224, 224) }
    println("ready")
    while (readlnOrNull() != null) {
        val start = System.nanoTime()
        resize(image, 224, 224)
        println(ms(start, System.nanoTime()))
    }
}
