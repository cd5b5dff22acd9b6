package org.sonoedge.core

/** Everything that can go wrong in words for the screen; [message] is one or two whole sentences. */
sealed class DemoException(message: String, cause: Throwable? = null) : Exception(message, cause) {
    override val message: String get() = super.message!!
}

/** The bundle is damaged, incomplete, of another schema, or not what bundle.json says. */
class BundleException(message: String, cause: Throwable? = null) : DemoException(message, cause)

/** A picture cannot be decoded or is too large. */
class ImageException(message: String, cause: Throwable? = null) : DemoException(message, cause)

/** The interpreter cannot be loaded, or refuses a model file. */
class ModelException(message: String, cause: Throwable? = null) : DemoException(message, cause)
