package veca.edge

import android.content.Context
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.TensorBuffer
import java.io.File
import veca.core.Bundle
import veca.core.Prediction

/**
 * The model of this project with all its core counts, which share their weights. One call at a time.
 *
 *     val model = VecaModel.open(context)
 *     val prediction = model.run(frame, coreCount = 16)
 */
class VecaModel private constructor(private val model: CompiledModel, private val bundle: Bundle) : AutoCloseable {
    private class Buffers(val image: TensorBuffer, val outputs: Map<String, TensorBuffer>)

    private val buffers = mutableMapOf<Int, Buffers>()

    /** @param frame RGB bytes `[height, width, 3]` of the model's input */
    @Synchronized
    fun run(frame: ByteArray, coreCount: Int): Prediction {
        require(frame.size == bundle.input.width * bundle.input.height * 3) {
            "a frame of ${frame.size} bytes is not ${bundle.input.width} x ${bundle.input.height} of RGB"
        }
        val signature = bundle.variant(coreCount).signature
        val used = buffers.getOrPut(coreCount) { buffers(signature) }
        used.image.writeInt8(frame)
        model.run(mapOf(IMAGE to used.image), used.outputs, signature)
        fun floats(name: String): FloatArray? = used.outputs[name]?.readFloat()
        return Prediction(
            coreCount,
            cls = floats("cls"),
            dense = floats("dense"),
            logits = floats("logits"),
            segmentation = used.outputs["segmentation"]?.readInt(),
            depth = floats("depth"),
        )
    }

    @Synchronized
    override fun close() {
        for (used in buffers.values) {
            used.image.close()
            used.outputs.values.forEach { it.close() }
        }
        buffers.clear()
        model.close()
    }

    private fun buffers(signature: String) = Buffers(
        model.createInputBuffer(IMAGE, signature),
        bundle.outputs.associateWith { model.createOutputBuffer(it, signature) },
    )

    companion object {
        private const val IMAGE = "image"

        /**
         * Loads the model; the first time on a phone takes longest.
         *
         * @param threads of the CPU; null is LiteRT's choice
         */
        fun open(
            context: Context,
            bundle: Bundle = Bundle.declared,
            accelerator: Accelerator = Accelerator.CPU,
            threads: Int? = null,
        ): VecaModel {
            val options = CompiledModel.Options(accelerator)
            if (accelerator == Accelerator.CPU) {
                // The weights as XNNPACK arranges them: once for all core counts, and kept for the next start.
                val weights = File(context.cacheDir, "veca-${bundle.digest}.xnnpack")
                options.cpuOptions = CompiledModel.CpuOptions(threads, xnnPackWeightCachePath = weights.path)
            }
            return VecaModel(CompiledModel.create(context.assets, bundle.modelFile, options), bundle)
        }
    }
}
