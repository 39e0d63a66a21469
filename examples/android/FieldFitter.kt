// Fits fields on Android from a learned initialization, with LiteRT's CompiledModel.
//
// `python -m tfmetainit.export` writes the .tflite file; docs/on_device.md describes it. The app
// depends on com.google.ai.edge.litert:litert and, for the GPU from LiteRT 2.3 on, litert-gpu.

package tfmetainit

import android.content.res.AssetManager
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.CompiledModel.GpuOptions
import com.google.ai.edge.litert.Environment

/** theta `[T]` after the steps, and the mean squared error before each step that was taken. */
class Adapted(val theta: FloatArray, val losses: List<Float>)

/**
 * Coordinates `[height * width, 2]` of a picture's pixels, as artifacts for images take them:
 * (row / height, column / width), row first, in [0, 1).
 */
fun pixelCoords(height: Int, width: Int) =
    FloatArray(2 * height * width) { i ->
        val pixel = i / 2
        if (i % 2 == 0) (pixel / width).toFloat() / height else (pixel % width).toFloat() / width
    }

/**
 * A learned initialization with its adapter, from the file [path], or from the asset [path] of
 * [assets]. Arrays are flat, row after row.
 *
 * The CPU takes all steps in one call of the signature `adapt`. The GPU takes each in a call of
 * `adapt_step`, and `solve_output` follows if the file has it; parts of them run on the CPU unless
 * metadata.json has `"gpu": true`. Use an instance from one thread, not the main one, and close it.
 *
 * @param accelerator CPU or GPU.
 * @param numThreads threads of the CPU.
 */
class FieldFitter(
    path: String,
    accelerator: Accelerator = Accelerator.CPU,
    numThreads: Int = 2,
    assets: AssetManager? = null,
) : AutoCloseable {

    private val onGpu = accelerator == Accelerator.GPU
    private val resources = mutableListOf<AutoCloseable>()
    private val model: CompiledModel

    init {
        require(onGpu || accelerator == Accelerator.CPU) { "CPU or GPU, not $accelerator" }
        try {
            val env = Environment.create().kept()
            // Without this check, LiteRT would run on the CPU and not say so.
            check(!onGpu || Accelerator.GPU in env.getAvailableAccelerators()) {
                "LiteRT finds no GPU. Does the app depend on litert-gpu?"
            }
            // The CPU in any case: `adapt` has a loop, which GPU delegates do not take.
            val options = CompiledModel.Options(setOf(accelerator, Accelerator.CPU))
            options.cpuOptions = CompiledModel.CpuOptions(numThreads = numThreads)
            // Gradients need more than float16, the default of the GPU.
            if (onGpu) options.gpuOptions = GpuOptions(precision = GpuOptions.Precision.FP32)
            model =
                if (assets == null) CompiledModel.create(path, options, env).kept()
                else CompiledModel.create(assets, path, options, env).kept()
        } catch (error: Throwable) {
            close()
            throw error
        }
    }

    private val observed = listOf("theta", "inputs", "values")
    private val initial by lazy { Signature("init", listOf(), "theta") }
    private val adapt by lazy {
        Signature("adapt", observed + "n_points" + "steps", "theta", "losses", "steps_taken")
    }
    // A file whose steps see half of the pixels has the first.
    private val step by lazy {
        val halves = runCatching { shape("adapt_half", "theta") }.isSuccess
        Signature(if (halves) "adapt_half" else "adapt_step", observed + "weights", "theta", "loss")
    }
    // A file whose output layer is not solved lacks this signature.
    private val solves by lazy { runCatching { shape("solve_output", "theta") }.isSuccess }
    private val solve by lazy { Signature("solve_output", observed + "weights", "theta") }
    private val predict by lazy { Signature("predict", listOf("theta", "coords"), "values") }

    private val maxSteps by lazy {
        checkNotNull(model.getOutputTensorType("losses", "adapt").layout).dimensions.single()
    }

    /** N: the largest number of observations of one call of [adapt]. */
    val numPoints by lazy { shape("adapt", "inputs").first() }

    /** The learned initial weights, `[T]`. */
    fun init(): FloatArray = initial.run().read("theta")

    /**
     * Takes [steps] >= 0 gradient steps from [theta] `[T]`, which [init] or an earlier call returned,
     * on [values] `[n, c]` observed at [inputs] `[n, d]`, n in 1..[numPoints]. For images d is 2, c
     * is 3, and all are in [0, 1]. A step whose result is not finite is not taken, and ends them.
     */
    fun adapt(theta: FloatArray, inputs: FloatArray, values: FloatArray, steps: Int): Adapted {
        val count = inputs.size / width("adapt", "inputs")
        require(count in 1..numPoints) { "observations must be 1 to $numPoints, not $count" }
        require(steps >= 0) { "steps must not be negative: $steps" }
        val used = if (!onGpu) listOf(adapt) else if (solves) listOf(step, solve) else listOf(step)
        for (signature in used) {
            signature.write("theta", theta)
            signature.write("inputs", inputs, count).write("values", values, count)
            if (onGpu) signature.write("weights", FloatArray(count) { 1f }, count)
        }
        val losses = mutableListOf<Float>()
        var adapted = theta
        while (onGpu && losses.size < steps) {
            val loss = step.write("theta", adapted).run().read("loss").single()
            val next = step.read("theta")
            if (!loss.isFinite() || next.contentEquals(adapted)) break // The step was not taken.
            losses += loss
            adapted = next
        }
        // Once, after the last step and before a prediction. `adapt` does it itself.
        if (onGpu && solves) adapted = solve.write("theta", adapted).run().read("theta")
        if (onGpu) return Adapted(adapted, losses)
        do {
            val asked = minOf(steps - losses.size, maxSteps)
            adapt.write("theta", adapted).write("n_points", count).write("steps", asked).run()
            adapted = adapt.read("theta")
            val taken = adapt.outputs.getValue("steps_taken").readInt().single()
            losses += adapt.read("losses").take(taken)
        } while (taken == asked && losses.size < steps)
        return Adapted(adapted, losses)
    }

    /** Values `[m, c]` of the field with weights [theta] `[T]` at [coords] `[m, d]`, for any m. */
    fun predict(theta: FloatArray, coords: FloatArray): FloatArray {
        val (atOnce, width) = shape("predict", "coords").first() to width("predict", "coords")
        require(coords.size % width == 0) { "coords must have $width numbers per row" }
        predict.write("theta", theta)
        val parts = (0 until coords.size step atOnce * width).map { start ->
            val rows = coords.copyOfRange(start, minOf(start + atOnce * width, coords.size))
            val values = predict.write("coords", rows, rows.size / width).run().read("values")
            values.copyOf(values.size / atOnce * (rows.size / width))
        }
        val joined = FloatArray(parts.sumOf { it.size })
        parts.fold(0) { at, part -> part.copyInto(joined, at).let { at + part.size } }
        return joined
    }

    /** Frees what LiteRT holds. */
    override fun close() = resources.asReversed().forEach(AutoCloseable::close)

    private fun <T : AutoCloseable> T.kept() = also { resources += it }

    private fun shape(signature: String, input: String) =
        checkNotNull(model.getInputTensorType(input, signature).layout).dimensions

    private fun width(signature: String, input: String) =
        shape(signature, input).drop(1).fold(1, Int::times)

    /** A signature with its buffers, which are made once and written again. */
    private inner class Signature(val name: String, inputs: List<String>, vararg outputs: String) {
        val inputs = inputs.associateWith { model.createInputBuffer(it, name).kept() }
        val outputs = outputs.associateWith { model.createOutputBuffer(it, name).kept() }

        /** Writes [count] rows, by default all that the input has, and zeros behind them. */
        fun write(input: String, rows: FloatArray, count: Int = shape(name, input).first()) = apply {
            val size = count * width(name, input)
            require(rows.size == size) { "$input must have $size numbers, not ${rows.size}" }
            inputs.getValue(input).writeFloat(rows.copyOf(size / count * shape(name, input).first()))
        }

        fun write(input: String, scalar: Int) =
            apply { inputs.getValue(input).writeInt(intArrayOf(scalar)) }

        fun run() = apply { model.run(inputs, outputs, name) }

        fun read(output: String): FloatArray = outputs.getValue(output).readFloat()
    }
}
