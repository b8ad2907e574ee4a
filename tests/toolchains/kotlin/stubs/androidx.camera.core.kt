package androidx.camera.core

import androidx.camera.core.resolutionselector.ResolutionSelector
import java.nio.ByteBuffer
import java.util.concurrent.Executor

interface ImageProxy : AutoCloseable {
    interface PlaneProxy {
        val rowStride: Int
        val pixelStride: Int
        val buffer: ByteBuffer
    }

    val width: Int
    val height: Int
    val planes: Array<PlaneProxy>
}

abstract class UseCase

class ImageAnalysis private constructor() : UseCase() {
    fun interface Analyzer {
        fun analyze(image: ImageProxy)
    }

    fun setAnalyzer(executor: Executor, analyzer: Analyzer): Unit = TODO("$executor $analyzer")

    class Builder {
        fun setResolutionSelector(resolutionSelector: ResolutionSelector): Builder = apply { check(resolutionSelector.hashCode() != -1) }

        fun setBackpressureStrategy(strategy: Int): Builder = apply { check(strategy == STRATEGY_KEEP_ONLY_LATEST) }

        fun setOutputImageFormat(outputImageFormat: Int): Builder =
            apply { check(outputImageFormat == OUTPUT_IMAGE_FORMAT_RGBA_8888) }

        fun setOutputImageRotationEnabled(outputImageRotationEnabled: Boolean): Builder =
            apply { check(outputImageRotationEnabled) }

        fun build(): ImageAnalysis = ImageAnalysis()
    }

    companion object {
        const val STRATEGY_KEEP_ONLY_LATEST = 0
        const val OUTPUT_IMAGE_FORMAT_RGBA_8888 = 2
    }
}

interface Camera

class CameraSelector private constructor() {
    companion object {
        @JvmField
        val DEFAULT_BACK_CAMERA = CameraSelector()
    }
}
