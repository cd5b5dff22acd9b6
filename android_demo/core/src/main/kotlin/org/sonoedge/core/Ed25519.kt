package org.sonoedge.core

import java.math.BigInteger
import java.security.MessageDigest

/**
 * Whether [signature] (64 bytes) of [message] was made with the private half of [key] (32 bytes): Ed25519, RFC 8032.
 *
 * Written out because Android has it from version 13 on only, and the app runs on version 9. It only checks public
 * values, so it need not hide how long it takes: some hundredths of a second.
 */
internal fun ed25519Verifies(key: ByteArray, message: ByteArray, signature: ByteArray): Boolean {
    if (key.size != 32 || signature.size != 64) return false
    val a = Point.decoded(key) ?: return false
    val r = signature.copyOfRange(0, 32)
    val s = littleEndian(signature.copyOfRange(32, 64))
    // RFC 8032, 5.1.7: a larger s would be a second signature of the same message.
    if (s >= ORDER) return false
    val digest = MessageDigest.getInstance("SHA-512").apply { update(r); update(key); update(message) }.digest()
    val k = littleEndian(digest).mod(ORDER)
    // s B = R + k A, with R on its own side, so that bytes are compared as they are signed.
    return (BASE * s + a.negated() * k).encoded().contentEquals(r)
}

private val P = BigInteger.ONE.shiftLeft(255) - BigInteger.valueOf(19)
private val ORDER = BigInteger.ONE.shiftLeft(252) + BigInteger("27742317777372353535851937790883648493")
private val D = (BigInteger.valueOf(-121665) * BigInteger.valueOf(121666).modInverse(P)).mod(P)
private val ROOT_OF_MINUS_ONE = BigInteger.valueOf(2).modPow((P - BigInteger.ONE).shiftRight(2), P)
private val BASE = BigInteger.valueOf(4).multiply(BigInteger.valueOf(5).modInverse(P)).mod(P).let { y ->
    Point.of(evenRoot(y)!!, y)
}

/** A point of the curve in extended coordinates (RFC 8032, 5.1.4): x = [x] / [z], y = [y] / [z], x y = [t] / [z]. */
private class Point(val x: BigInteger, val y: BigInteger, val z: BigInteger, val t: BigInteger) {
    operator fun plus(other: Point): Point {
        val a = (y - x) * (other.y - other.x)
        val b = (y + x) * (other.y + other.x)
        val c = t * BigInteger.valueOf(2) * D.multiply(other.t).mod(P)
        val d = z * BigInteger.valueOf(2) * other.z
        val (e, f) = (b - a).mod(P) to (d - c).mod(P)
        val (g, h) = (d + c).mod(P) to (b + a).mod(P)
        return Point((e * f).mod(P), (g * h).mod(P), (f * g).mod(P), (e * h).mod(P))
    }

    operator fun times(factor: BigInteger): Point {
        var sum = Point(BigInteger.ZERO, BigInteger.ONE, BigInteger.ONE, BigInteger.ZERO)
        for (bit in factor.bitLength() - 1 downTo 0) {
            sum += sum
            if (factor.testBit(bit)) sum += this
        }
        return sum
    }

    fun negated() = Point((P - x).mod(P), y, z, (P - t).mod(P))

    /** y in 32 bytes, little end first; the lowest bit of x is the highest of the last byte. */
    fun encoded(): ByteArray {
        val inverse = z.modInverse(P)
        val bytes = (y * inverse).mod(P).toByteArray()
        val out = ByteArray(32) { i -> if (i < bytes.size) bytes[bytes.size - 1 - i] else 0 }
        if ((x * inverse).mod(P).testBit(0)) out[31] = (out[31].toInt() or 0x80).toByte()
        return out
    }

    companion object {
        fun of(x: BigInteger, y: BigInteger) = Point(x, y, BigInteger.ONE, (x * y).mod(P))

        /** RFC 8032, 5.1.3; null: no point of the curve. */
        fun decoded(bytes: ByteArray): Point? {
            val odd = bytes[31] < 0
            val y = littleEndian(bytes.clone().also { it[31] = (it[31].toInt() and 0x7F).toByte() })
            if (y >= P) return null
            val x = evenRoot(y) ?: return null
            if (x.signum() == 0 && odd) return null
            return of(if (odd) P - x else x, y)
        }
    }
}

/** The even x of a point with this [y]; null: there is none. */
private fun evenRoot(y: BigInteger): BigInteger? {
    val square = y.multiply(y).mod(P)
    val wanted = (square - BigInteger.ONE) * (D * square + BigInteger.ONE).modInverse(P)
    var x = wanted.modPow((P + BigInteger.valueOf(3)).shiftRight(3), P)
    if ((x * x - wanted).mod(P).signum() != 0) x = (x * ROOT_OF_MINUS_ONE).mod(P)
    if ((x * x - wanted).mod(P).signum() != 0) return null
    return if (x.testBit(0)) P - x else x
}

private fun littleEndian(bytes: ByteArray) = BigInteger(1, bytes.reversedArray())
